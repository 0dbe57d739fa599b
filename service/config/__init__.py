"""The configuration: read with :func:`load`, refused as a whole with every fault and its place."""

from service.config.accounts import Account, ApsisAccount, CopernicaAccount, Np6Account
from service.config.expressions import ExpressionFault, compile_expression
from service.config.faults import ConfigurationError, Fault
from service.config.kafka import Kafka, Security
from service.config.lanes import Batch, Guard, HandlerKind, Kinds, Lane, Retry, Start, kinds_of
from service.config.loading import check_drain, check_secrets, load, loads, secrets_of
from service.config.model import Configuration, Http, Log, Results, config_fingerprint
from service.config.reference import reference_markdown
from service.config.schema import configuration_schema, schema_json
from service.config.secrets import Secret, SecretError

__all__ = [
    "Account",
    "ApsisAccount",
    "Batch",
    "Configuration",
    "ConfigurationError",
    "CopernicaAccount",
    "ExpressionFault",
    "Fault",
    "Guard",
    "HandlerKind",
    "Http",
    "Kafka",
    "Kinds",
    "Lane",
    "Log",
    "Np6Account",
    "Results",
    "Retry",
    "Secret",
    "SecretError",
    "Security",
    "Start",
    "check_drain",
    "check_secrets",
    "compile_expression",
    "config_fingerprint",
    "configuration_schema",
    "kinds_of",
    "load",
    "loads",
    "reference_markdown",
    "schema_json",
    "secrets_of",
]
