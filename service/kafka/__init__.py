"""What Fanline needs of Kafka's protocol and of aiokafka, in one room."""
