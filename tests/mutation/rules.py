"""The pure rules, each with the tests that hold it: what is mutated, and what has to notice.

A module stands here if it decides something and does no I/O. The tests named are those that were written for it,
and take seconds: what finds a mistake should be the rule's own tests, not a run against a broker.
"""

import ast
from pathlib import Path

CONTRACTS = "tests/unit/contracts/test_contracts_"
HANDLERS = "tests/unit/handlers/"
IMPORTS = "tests/unit/handlers/imports/test_imports_"
NP6 = "tests/unit/handlers/np6/test_np6_"
DELIVERY = "tests/unit/service/delivery/test_delivery_"
WAITING = "tests/unit/service/imports/test_imports_"
INTAKE = "tests/unit/service/intake/test_intake_"
JOURNAL = "tests/unit/service/journal/test_journal_"
OFFSETS = "tests/unit/service/offsets/test_offsets_"
LOOKUP = "tests/unit/service/lookup/test_lookup_"
SETTLING = "tests/unit/service/settling/test_settling_"
STATUS = "tests/unit/service/status/test_status_"

RULES: dict[str, tuple[str, ...]] = {
    # What crosses a boundary.
    "contracts/contract_check.py": (f"{CONTRACTS}envelope_rules.py",),
    "contracts/control.py": (f"{CONTRACTS}control.py",),
    "contracts/deadletters.py": (f"{CONTRACTS}deadletters.py", f"{CONTRACTS}golden.py"),
    "contracts/envelope.py": (f"{CONTRACTS}envelope_rules.py",),
    "contracts/fast_decoding.py": (f"{CONTRACTS}envelope_rules.py", f"{CONTRACTS}envelope_ways.py"),
    "contracts/ids.py": (f"{CONTRACTS}ids.py", f"{CONTRACTS}golden.py"),
    "contracts/journal.py": (f"{CONTRACTS}journal.py", f"{CONTRACTS}golden.py"),
    "contracts/json_text.py": (f"{CONTRACTS}json_text.py", f"{CONTRACTS}envelope_rules.py"),
    "contracts/masking.py": (f"{CONTRACTS}masking.py",),
    "contracts/reader.py": (f"{CONTRACTS}results.py",),
    "contracts/results.py": (f"{CONTRACTS}results.py", f"{CONTRACTS}golden.py"),
    "contracts/timestamps.py": (f"{CONTRACTS}timestamps.py",),
    # What platforms are asked, and what their answers mean.
    "handlers/deletions.py": (f"{NP6}workflows.py",),
    "handlers/faults.py": (f"{NP6}segments.py", f"{NP6}workflows.py"),
    "handlers/templates.py": (f"{HANDLERS}test_handlers_templates.py", f"{NP6}workflows.py"),
    "handlers/tokens.py": (f"{HANDLERS}test_handlers_tokens.py",),
    "handlers/statuses.py": (f"{HANDLERS}test_handlers_statuses.py", f"{NP6}verdicts.py"),
    "handlers/apsis/discovery.py": ("tests/unit/service/checking/test_checking_lanes.py",),
    "handlers/apsis/client.py": (f"{HANDLERS}apsis/test_apsis_client.py",),
    "handlers/apsis/verdicts.py": (f"{HANDLERS}apsis/test_apsis_verdicts.py",),
    "handlers/apsis/wire.py": (f"{HANDLERS}apsis/test_apsis_wire.py",),
    "handlers/copernica/client.py": (f"{HANDLERS}copernica/test_copernica_client.py",),
    "handlers/copernica/verdicts.py": (f"{HANDLERS}copernica/test_copernica_verdicts.py",),
    "handlers/copernica/wire.py": (f"{HANDLERS}copernica/test_copernica_wire.py",),
    "handlers/imports/cells.py": (f"{IMPORTS}cells.py",),
    "handlers/imports/coalescing.py": (f"{IMPORTS}coalescing.py",),
    "handlers/imports/csv_rows.py": (f"{IMPORTS}cells.py",),
    "handlers/imports/form.py": (f"{IMPORTS}form.py", f"{IMPORTS}form_rules.py"),
    "handlers/imports/verdicts.py": (f"{IMPORTS}verdicts.py",),
    "handlers/np6/import_definitions.py": (f"{NP6}import_definitions.py", f"{NP6}imports.py"),
    "handlers/np6/import_verdicts.py": (f"{NP6}import_verdicts.py",),
    "handlers/np6/client.py": (f"{NP6}client.py",),
    "handlers/np6/notifications.py": (f"{NP6}notifications.py",),
    "handlers/np6/segments.py": (f"{NP6}segments.py",),
    "handlers/np6/verdicts.py": (f"{NP6}verdicts.py", f"{NP6}segments.py"),
    "handlers/np6/wire.py": (f"{NP6}wire.py", f"{NP6}workflow_verdicts.py"),
    "handlers/np6/workflow_verdicts.py": (f"{NP6}workflow_verdicts.py", f"{NP6}workflows.py"),
    "handlers/np6/usual_executions.py": (f"{NP6}usual_executions.py",),
    "handlers/np6/workflows.py": (f"{NP6}workflows.py", f"{NP6}usual_executions.py"),
    # From a record to a delivery.
    "service/batching/batcher.py": (
        "tests/unit/service/batching/test_batching_batcher.py",
        "tests/model/test_batcher_model.py",
    ),
    "service/dedupe/window.py": (
        "tests/unit/service/dedupe/test_dedupe_window.py",
        "tests/model/test_dedupe_model.py",
    ),
    "service/dedupe/events.py": ("tests/unit/service/dedupe/test_dedupe_window.py",),
    "service/imports/behind.py": (f"{WAITING}behind.py", f"{WAITING}batching.py"),
    "service/imports/growing.py": (f"{WAITING}batching.py", f"{WAITING}behind.py"),
    "service/imports/returning.py": (f"{WAITING}behind.py", f"{WAITING}batching.py"),
    "service/imports/growth.py": ("tests/unit/service/imports/test_imports_growth.py",),
    "service/imports/pace.py": ("tests/unit/service/imports/test_imports_pace.py",),
    "service/imports/torn.py": ("tests/unit/service/imports/test_imports_torn_rules.py",),
    "service/imports/slots.py": ("tests/unit/service/imports/test_imports_slot_rules.py",),
    "service/imports/judging.py": ("tests/unit/service/imports/test_imports_judging.py",),
    "service/imports/recovery.py": (
        "tests/unit/service/imports/test_imports_recovery.py",
        "tests/unit/service/imports/test_imports_torn_rules.py",
    ),
    "service/intake/assignor.py": (f"{INTAKE}assignor.py", "tests/unit/service/imports/test_imports_slot_rules.py"),
    "service/intake/losses.py": (f"{INTAKE}losses.py",),
    "service/intake/starts.py": (f"{INTAKE}starts.py",),
    "service/intake/planner.py": (f"{INTAKE}planner.py", f"{INTAKE}duplicates.py"),
    # Whether and when a request goes out.
    "service/delivery/adapting.py": (f"{DELIVERY}adapting.py",),
    "service/delivery/breaker.py": (f"{DELIVERY}breaker.py",),
    "service/delivery/bulk.py": (f"{DELIVERY}bulk_parts.py",),
    "service/delivery/chain.py": (f"{DELIVERY}chain.py",),
    "service/delivery/guard.py": (f"{DELIVERY}guard.py",),
    "service/delivery/held_time.py": (f"{DELIVERY}held_time.py",),
    "service/delivery/holding.py": (f"{DELIVERY}holds.py",),
    "service/delivery/limiter.py": (f"{DELIVERY}limiter.py", f"{DELIVERY}shares.py"),
    "service/delivery/quota.py": (f"{DELIVERY}quota.py",),
    "service/delivery/retry.py": (f"{DELIVERY}retry.py",),
    "service/delivery/shares.py": (f"{DELIVERY}shares.py",),
    "service/delivery/success.py": (f"{DELIVERY}success.py",),
    "service/transport/fair_line.py": (
        "tests/unit/service/transport/test_transport_fair_line.py",
        "tests/model/test_fair_line_model.py",
    ),
    "service/transport/wire.py": ("tests/unit/service/transport/test_transport_wire.py",),
    # What is finished, and what is written of it.
    "service/journal/deliveries.py": tuple(f"{JOURNAL}{part}.py" for part in ("deliveries", "named", "writer")),
    "service/journal/recovery.py": (f"{JOURNAL}recovery.py",),
    "service/journal/settled.py": (f"{JOURNAL}settled.py",),
    "service/lifecycle.py": ("tests/unit/service/test_service_lifecycle.py",),
    "service/offsets/deferred.py": (f"{OFFSETS}deferred.py", "tests/model/test_deferring_model.py"),
    "service/offsets/ledger.py": (
        *(f"{OFFSETS}{part}.py" for part in ("ledger", "deferred", "kept_back", "full")),
        "tests/model/test_ledger_model.py",
    ),
    "service/offsets/metadata.py": (f"{OFFSETS}metadata.py", f"{OFFSETS}deferred.py"),
    "service/settling/documents.py": (f"{SETTLING}documents.py",),
    "service/settling/packing.py": (f"{SETTLING}packing.py",),
    "service/settling/partitioner.py": (f"{SETTLING}partitioner.py",),
    # What operators order, and what they are told.
    "service/auditing/retention.py": ("tests/unit/service/auditing/test_auditing_retention.py",),
    "service/auditing/marks.py": (
        "tests/unit/service/auditing/test_auditing_marks.py",
        "tests/unit/service/auditing/test_auditing_tally.py",
    ),
    "service/auditing/tally.py": ("tests/unit/service/auditing/test_auditing_tally.py",),
    "service/control/orders.py": ("tests/unit/service/control/test_control_orders.py",),
    "service/kafka/obstacles.py": ("tests/unit/service/kafka/test_kafka_obstacles.py",),
    "service/kafka/rights.py": ("tests/unit/service/kafka/test_kafka_rights.py",),
    "service/kafka/topic_faults.py": ("tests/unit/service/kafka/test_kafka_topics.py",),
    "service/kafka/topics.py": ("tests/unit/service/kafka/test_kafka_topics.py",),
    "service/lookup/findings.py": (f"{LOOKUP}findings.py",),
    "service/lookup/matching.py": (f"{LOOKUP}matching.py",),
    "service/lookup/results.py": (f"{LOOKUP}filter.py",),
    "service/lookup/standing.py": (f"{LOOKUP}standing.py", f"{LOOKUP}findings.py"),
    "service/status/health.py": (f"{STATUS}health.py",),
    "service/status/longest.py": (f"{STATUS}longest.py",),
    "service/status/waiting.py": (f"{STATUS}standing_still.py",),
    "service/watching/stalls.py": ("tests/unit/service/watching/test_watching_stalls.py",),
}

# Call themselves pure, and are left out, each with the reason.
NOT_MUTATED: dict[str, str] = {
    "handlers/base.py": "declares what a handler is: nothing in it to change",
    "handlers/np6/execution.py": "one command's own, and its tests run the command",
    "service/localkafka/properties.py": "the local broker's settings, which itself says if one is wrong",
}


def unlisted(root: Path) -> list[str]:
    """What calls itself pure and is in neither table."""
    pure = [
        str(path.relative_to(root))
        for folder in ("contracts", "handlers", "service")
        for path in sorted((root / folder).rglob("*.py"))
        if "pure" in (ast.get_docstring(ast.parse(path.read_text())) or "").lower()
    ]
    return [module for module in pure if module not in RULES and module not in NOT_MUTATED]
