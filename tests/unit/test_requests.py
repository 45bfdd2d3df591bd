"""What clients send: the members of a task, of a line of a batch and of the defaults of a batch agree."""

from typing import Any

from msgspec import UNSET, UnsetType, inspect
from msgspec.structs import fields

from penstock.intake.requests import BatchDefaults, BatchLine, TaskRequest


def members(kind: type[Any], *leave_out: str) -> dict[str, inspect.Type]:
    """The type of each member as msgspec reads it, without what a member may be that is left out."""
    return {
        field.name: inspect.type_info(field.type if field.default is not UNSET else field.type | UnsetType)
        for field in fields(kind)
        if field.name not in leave_out
    }


def test_the_defaults_of_a_batch_have_the_members_of_a_task_but_its_name() -> None:
    assert members(BatchDefaults) == members(TaskRequest, "client_request_id", "links")


def test_no_member_of_the_defaults_is_needed() -> None:
    assert {field.name for field in fields(BatchDefaults) if field.default is not UNSET} == set()


def test_a_line_has_the_members_of_the_defaults_and_a_custom_id() -> None:
    assert members(BatchLine, "custom_id") == members(BatchDefaults)
    assert "custom_id" in BatchLine.__struct_fields__
