"""What a task declares reaches the protobuf, and execute() reaches the engine."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from flyteidl2.core import tasks_pb2
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from google.protobuf import json_format

from orchestrator._secrets import Secret, secret_references
from orchestrator._tasks import (
    AsyncConnectorExecutorMixin,
    Backoff,
    RetryStrategy,
    SubmitOptions,
    TaskTemplate,
    Timeout,
    attempt_metadata,
    current_options,
    default_engine_hook,
    describe_template,
    execution_metadata,
    links_to_json,
    max_inline_io_bytes_of,
    options,
    retries_of,
    set_default_engine_hook,
    template_from_bytes,
    template_to_bytes,
    timeout_from_request,
    timeout_of,
    to_template,
)
from orchestrator.connectors import utils
from orchestrator.errors import ConfigurationError
from orchestrator.models import NativeInterface, SerializationContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOTHING = NativeInterface(inputs={}, outputs={})
MINUTE = timedelta(minutes=1)


class BatchJobTask(AsyncConnectorExecutorMixin, TaskTemplate):
    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(
            name=name,
            interface=NativeInterface(inputs={}, outputs={"result": str}),
            task_type="batch_job",
            image=None,
            **kwargs,
        )


class Custom(TaskTemplate):
    """Returns what the test put there."""

    given: ClassVar[Any] = None

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.given
        return found


class Query(TaskTemplate):
    def sql(self, sctx: SerializationContext) -> str:
        return "SELECT 1"

    def config(self, sctx: SerializationContext) -> dict[str, str]:
        return {"warehouse": "small", "version": sctx.version}


class Box(TaskTemplate):
    def container_args(self, serialize_context: SerializationContext) -> list[str]:
        return ["run", serialize_context.input_path]

    def config(self, sctx: SerializationContext) -> dict[str, str]:
        return {"b": "2", "a": "1"}


class Dashboard:
    name = "dashboard"
    icon_uri = "icon"

    def get_link(self, run_name: str, project: str, **kwargs: Any) -> str:
        return f"https://d/{project}/{run_name}/{kwargs['action_name']}"


def task(kind: type[TaskTemplate] = TaskTemplate, **kwargs: Any) -> TaskTemplate:
    given = {"name": "t", "interface": NOTHING, "task_type": "x", **kwargs}
    return kind(**given)


def test_the_tutorials_task_becomes_a_template() -> None:
    found = to_template(BatchJobTask(name="test_task"))
    assert found.id.name == "test_task"
    assert found.type == "batch_job"
    assert found.interface.outputs.variables[0].key == "result"
    assert not found.HasField("custom")
    assert not found.HasField("security_context")


def test_the_context_fills_the_identifier() -> None:
    context = SerializationContext(version="v", project="p", domain="d", org="o")
    found = to_template(task(task_type_version=3), context)
    parts = (found.id.project, found.id.domain, found.id.org, found.id.version)
    assert parts == ("p", "d", "o", "v")
    assert found.task_type_version == 3


def test_a_type_that_can_never_be_written_is_refused_before_the_job() -> None:
    unwritable = NativeInterface(inputs={}, outputs={"x": "Missing"})
    text = "task t: output 'x' has the unresolved type 'Missing'"
    with pytest.raises(ConfigurationError, match=text):
        to_template(task(interface=unwritable))


def test_retries_and_timeouts_come_back_from_the_template() -> None:
    strategy = RetryStrategy(3, Backoff(timedelta(seconds=1.5), 2.0, MINUTE))
    timeout = Timeout(max_runtime=30, max_queued_time=MINUTE, deadline=3600)
    found = template_from_bytes(
        template_to_bytes(to_template(task(retries=strategy, timeout=timeout)))
    )
    assert retries_of(found) == strategy
    assert timeout_of(found) == Timeout(
        max_runtime=timedelta(seconds=30),
        max_queued_time=MINUTE,
        deadline=timedelta(hours=1),
    )


def test_zero_and_absent_are_unlimited() -> None:
    for timeout in (None, 0, Timeout(), Timeout(0, timedelta(0), 0)):
        found = to_template(task(timeout=timeout))
        assert timeout_of(found) == Timeout()
        assert not found.metadata.HasField("timeout")
        assert not found.metadata.HasField("timeouts")
        assert retries_of(found) == RetryStrategy(0)


def test_a_bare_timeout_is_the_run_time() -> None:
    assert timeout_of(to_template(task(timeout=90))).max_runtime == 1.5 * MINUTE
    assert timeout_of(to_template(task(timeout=MINUTE))).max_runtime == MINUTE


def test_a_backoff_that_flyte_would_refuse_is_mended() -> None:
    found = tasks_pb2.TaskTemplate(type="x")
    found.metadata.retries.retries = 2
    backoff = found.metadata.retries.backoff
    backoff.base.seconds = 5
    backoff.factor = 3.0
    assert retries_of(found) == RetryStrategy(2, Backoff(timedelta(seconds=5)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Backoff(timedelta(-1)), "Backoff.base"),
        (lambda: Backoff(MINUTE, 0.5), "Backoff.factor must be >= 1.0"),
        (lambda: Backoff(MINUTE, float("nan")), "Backoff.factor must be a finite"),
        (lambda: Backoff(MINUTE, 2.0), "Backoff.cap is required"),
        (lambda: Backoff(MINUTE, 2.0, timedelta(-1)), "Backoff.cap must be >= 0"),
        (lambda: Backoff(MINUTE).compute_delay(-1), "Retry index"),
        (lambda: RetryStrategy(-1), "greater than or equal to 0"),
        (lambda: RetryStrategy(1.5), "must be an int"),  # type: ignore[arg-type]
        (lambda: RetryStrategy(2**32), "fit 32 bits"),
        (lambda: Timeout(-1), "Timeout.max_runtime must be >= 0"),
        (lambda: Timeout(deadline=1.5), "Timeout.deadline must be int"),  # type: ignore[arg-type]
        (lambda: timeout_from_request("5"), "Timeout must be an instance"),  # type: ignore[arg-type]
        (lambda: task(retries="3"), "retries must be an int"),
        (lambda: task(timeout=1.5), "Timeout must be an instance"),
        (lambda: task(secrets="9-illegal"), "as_env_var"),
        (lambda: task(name=""), "TaskTemplate.name"),
        (lambda: task(task_type=None), "TaskTemplate.task_type"),
        (lambda: task(task_type_version="1"), "task_type_version"),
        (lambda: task(interface={}), "interface must be a NativeInterface"),
        (lambda: task(max_inline_io_bytes=0), "max_inline_io_bytes"),
        (lambda: task(options={"prio": 1}), "'prio' is none of"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_the_delay_grows_to_its_cap_and_does_not_overflow() -> None:
    backoff = Backoff(timedelta(seconds=10), 2.0, timedelta(minutes=5))
    seconds = [backoff.compute_delay(n).total_seconds() for n in (0, 1, 4, 5, 5000)]
    assert seconds == [10, 20, 160, 300, 300]
    assert Backoff(MINUTE).compute_delay(99) == MINUTE


def test_secrets_and_service_account_stand_in_the_security_context() -> None:
    secrets = ["api-key", Secret("db", as_env_var="DB_PASSWORD")]
    found = to_template(task(secrets=secrets, service_account="robot"))
    assert found.security_context.run_as.k8s_service_account == "robot"
    references = secret_references(found, object())
    variables = {keyword: secret.variable for keyword, secret in references.items()}
    assert variables == {"api-key": "API_KEY", "db": "DB_PASSWORD"}


def test_sql_and_config_reach_the_template() -> None:
    found = to_template(task(Query), SerializationContext(version="7"))
    assert found.sql.statement == "SELECT 1"
    assert dict(found.config) == {"warehouse": "small", "version": "7"}
    assert not found.HasField("container")


def test_image_arguments_and_environment_make_a_container() -> None:
    found = to_template(task(Box, image="img:1", env_vars={"Z": "1", "A": "2"}))
    assert found.container.image == "img:1"
    assert list(found.container.args) == ["run", "{{.input}}"]
    assert [p.key for p in found.container.env] == ["A", "Z"]
    assert [p.key for p in found.container.config] == ["a", "b"]


def test_custom_is_a_struct() -> None:
    class Own(Custom):
        given: ClassVar[Any] = {"a": {"b": (1, None)}, "secrets": {"k": "V"}}

    found = to_template(task(Own))
    shown = json_format.MessageToDict(found.custom)
    assert shown == {"a": {"b": [1, None]}, "secrets": {"k": "V"}}
    struct = found.custom

    class Ready(Custom):
        given = struct

    assert to_template(task(Ready)).custom == struct


@pytest.mark.parametrize(
    ("custom", "text"),
    [
        ({"a": [2**60]}, r"custom_config\['a'\]\[0\] is beyond"),
        ({"a": {1: 2}}, r"custom_config\['a'\] has key 1"),
        ({"a": b"x"}, r"custom_config\['a'\] is bytes"),
        ({"a": "\ud800"}, "custom_config has no protobuf form"),
    ],
)
def test_custom_that_a_struct_would_change_is_refused(custom: Any, text: str) -> None:
    class Own(Custom):
        given = custom

    with pytest.raises(ConfigurationError, match=text):
        to_template(task(Own))


def test_environment_variables_are_strings() -> None:
    with pytest.raises(ConfigurationError, match=r"env_vars\['A'\]"):
        to_template(task(env_vars={"A": 1}))


def test_links_are_shown_with_their_placeholders_filled_in() -> None:
    ready = TaskLog(name="ready", uri="https://r/{{.podName}}")
    made = task(links=(Dashboard(),), log_links=(ready,))
    found = to_template(made, SerializationContext(version="", project="p"))
    assert links_to_json(found.metadata.log_links, execution_id="e1") == [
        {"name": "ready", "uri": "https://r/e1"},
        {"name": "dashboard", "uri": "https://d/p/e1/e1"},
    ]


def test_the_limit_of_inputs_and_outputs_survives() -> None:
    assert max_inline_io_bytes_of(to_template(task())) == 10 * 1024 * 1024
    assert max_inline_io_bytes_of(to_template(task(max_inline_io_bytes=5))) == 5


def test_equal_tasks_have_equal_bytes() -> None:
    one, two = (template_to_bytes(to_template(task(Box))) for _ in range(2))
    assert one == two


def test_a_protobuf_is_a_task() -> None:
    found = tasks_pb2.TaskTemplate(type="x")
    assert to_template(found) is found
    with pytest.raises(ConfigurationError, match="type must not be empty"):
        to_template(tasks_pb2.TaskTemplate())
    with pytest.raises(ConfigurationError, match="str is no TaskTemplate"):
        to_template("task")


def test_fields_without_effect_are_named_once() -> None:
    with pytest.warns(UserWarning, match="task once: cache, queue set, but without"):
        task(name="once", cache="auto", queue="q", docs="fine")
    bare = tasks_pb2.TaskTemplate(type="x")
    bare.id.name = "bare-once"
    bare.k8s_pod.SetInParent()
    with pytest.warns(UserWarning, match="task bare-once: k8s_pod set"):
        to_template(bare)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(name="once", cache="auto", queue="q")
        to_template(bare)


def test_flytes_type_parameters_are_accepted() -> None:
    assert TaskTemplate[int, str] is TaskTemplate  # type: ignore[misc]


def test_the_metadata_of_an_attempt_is_filled() -> None:
    context = SerializationContext(version="", project="p", domain="d")
    made = task(retries=2, env_vars={"A": "1"}, interruptible=True)
    common = execution_metadata(to_template(made, context))
    found = attempt_metadata(
        common,
        execution_id="ab" * 16,
        attempt=2,
        token="o" + "ab" * 16 + "-2",
        labels={"team": "growth"},
    )
    node = found.task_execution_id.node_execution_id
    assert node.execution_id.name == "ab" * 16
    assert found.task_execution_id.retry_attempt == 1
    assert found.namespace == "p-d"
    assert dict(found.labels) == {
        "team": "growth",
        "orchestrator-token": "o" + "ab" * 16 + "-2",
    }
    assert dict(found.environment_variables) == {"A": "1"}
    assert found.max_attempts == 3
    assert found.interruptible
    assert not common.labels


def test_a_template_can_be_read_as_json() -> None:
    shown = json.loads(describe_template(to_template(task(name="ü"))))
    assert shown["id"]["name"] == "ü"


@pytest.fixture
def hooked() -> Iterator[list[tuple[Any, dict[str, Any], SubmitOptions]]]:
    """Record what reaches the engine."""
    calls: list[tuple[Any, dict[str, Any], SubmitOptions]] = []

    async def hook(task: Any, kwargs: dict[str, Any], given: SubmitOptions) -> Any:
        calls.append((task, kwargs, given))
        return ("out",)

    before = set_default_engine_hook(hook)
    yield calls
    set_default_engine_hook(before)


async def test_execute_hands_task_inputs_and_options_to_the_engine(
    hooked: list[tuple[Any, dict[str, Any], SubmitOptions]],
) -> None:
    made = BatchJobTask(
        name="t", options={"priority": 1, "labels": {"a": "1", "b": "1"}}
    )
    with options(labels={"b": "2"}, idempotency_key="k"):
        assert await made.execute(x=1) == ("out",)
    await made.execute()
    assert hooked[0][:2] == (made, {"x": 1})
    assert hooked[0][2] == SubmitOptions(
        idempotency_key="k", priority=1, labels={"a": "1", "b": "2"}
    )
    assert hooked[1][2] == SubmitOptions(priority=1, labels={"a": "1", "b": "1"})


async def test_without_an_engine_execute_says_what_to_import() -> None:
    before = set_default_engine_hook(None)
    try:
        with pytest.raises(ConfigurationError, match="no engine is installed"):
            await BatchJobTask(name="t").execute()
    finally:
        set_default_engine_hook(before)
    assert default_engine_hook() is before


def test_option_blocks_nest_and_end() -> None:
    with options(priority=1, abort_on_cancel=True):
        with options(priority=2):
            inner = current_options()
        outer = current_options()
    assert (inner.priority, inner.abort_on_cancel) == (2, True)
    assert outer.priority == 1
    assert current_options() == SubmitOptions()


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'key' is none of"), options(key=1):
        pass


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("Running", TaskExecution.RUNNING),
        ("PENDING", TaskExecution.INITIALIZING),
        ("done", TaskExecution.SUCCEEDED),
        ("cancelled", TaskExecution.FAILED),
        ("internal_error", TaskExecution.RETRYABLE_FAILED),
    ],
)
def test_a_services_word_means_flytes_phase(state: str, phase: Any) -> None:
    assert utils.convert_to_flyte_phase(state) == phase


def test_an_unknown_word_is_an_error_in_flytes_words() -> None:
    with pytest.raises(ValueError, match="Unrecognized state: odd"):
        utils.convert_to_flyte_phase("odd")


def test_a_retryable_failure_has_ended() -> None:
    assert utils.is_terminal_phase(TaskExecution.RETRYABLE_FAILED)
    assert utils.is_terminal_phase(TaskExecution.ABORTED)
    assert not utils.is_terminal_phase(TaskExecution.QUEUED)
    assert not utils.is_terminal_phase(TaskExecution.UNDEFINED)
