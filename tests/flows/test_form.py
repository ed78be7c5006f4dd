"""The form that Prefect's page draws from a flow's parameters."""

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows.backfill import backfill_flow
from flows.check_contracts import check_contracts
from flows.choose_replay import choose_replay_flow
from flows.compare_methods import compare_methods
from flows.compare_remedies import compare_remedies_flow
from flows.continual_training import ApprovalChoice, continual_training
from flows.evaluate_model import evaluate_model_flow
from flows.look_for_data import look_for_data
from flows.orchestration.form import AS_SPECIFIED
from flows.promote_model import promote_model
from flows.serving.serve import deployments
from schemas.spec.promotion import Promotion
from tasks.training.methods.registry import METHODS

FLOWS = [
    continual_training,
    backfill_flow,
    check_contracts,
    choose_replay_flow,
    compare_methods,
    compare_remedies_flow,
    evaluate_model_flow,
    look_for_data,
    promote_model,
]


def fields_of(flow: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    return parameter_schema(flow.fn).model_dump()["properties"]


def test_every_flow_that_is_served_is_looked_at_here() -> None:
    assert {served.flow_name for served in deployments(Path(".rootstock"))} == {flow.name for flow in FLOWS}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_field_has_a_title_and_a_description_for_people(flow: Flow[..., Any]) -> None:
    for name, field in fields_of(flow).items():
        assert field["title"][0].isupper(), name
        assert field["title"] != name
        assert len(field["description"]) > 15, name


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_form_is_flat(flow: Flow[..., Any]) -> None:
    assert parameter_schema(flow.fn).model_dump()["definitions"] == {}
    for name, field in fields_of(flow).items():
        kinds = [choice["type"] for choice in field.get("anyOf", [])]
        assert len([kind for kind in kinds if kind != "null"]) <= 1, name


def test_the_training_form_asks_in_the_order_people_think_in() -> None:
    fields = fields_of(continual_training)
    ordered = sorted(fields, key=lambda name: fields[name]["position"])
    assert ordered == [
        "spec",
        "replay_ratio",
        "method",
        "learning_rate",
        "approval",
        "overrides",
        "state",
        "dask",
    ]


def test_the_method_field_offers_exactly_the_registered_methods() -> None:
    assert fields_of(continual_training)["method"]["enum"] == [AS_SPECIFIED, *METHODS]


def test_the_approval_field_offers_exactly_what_the_specification_knows() -> None:
    from typing import get_args

    known = get_args(Promotion.model_fields["approval"].annotation)
    assert get_args(ApprovalChoice) == (AS_SPECIFIED, *known)


def test_the_limits_of_the_specification_hold_in_the_form() -> None:
    ratio = fields_of(continual_training)["replay_ratio"]["anyOf"][0]
    assert (ratio["minimum"], ratio["exclusiveMaximum"]) == (0, 1)


def test_nothing_has_to_be_filled_in_to_train() -> None:
    assert parameter_schema(continual_training.fn).model_dump()["required"] == []
