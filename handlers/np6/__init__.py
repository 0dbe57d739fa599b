"""NP6 (ChapsVision): segments. What is known of the platform, and how surely, stands in README.md."""
