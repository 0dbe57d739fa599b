"""``check --online``: whether Kafka, its topics, our rights and the platforms are as the service needs them."""

from service.checking.accounts import check_accounts
from service.checking.kafka import check_kafka
from service.checking.lanes import check_lanes
from service.checking.remarks import remarks
from service.checking.starting import start_problems

__all__ = ["check_accounts", "check_kafka", "check_lanes", "remarks", "start_problems"]
