"""The pytest plugin: options, fixtures to override, and one test for each variant × check.

Fixtures (of session scope; they may ask for each other and for other plain fixtures)::

    fastmnist_data       what fastmnist.evaluate takes; a bundle's test half is used
    fastmnist_variants   dict of name to model; the first is the reference
    fastmnist_limits     dict of limits: {"sqnr": 30, "pruned": {"sqnr": 5, "smaller": None}}
    fastmnist_metric     what fastmnist.evaluate takes: "mae", a function as fm.Metric, …
    fastmnist_batch_fn   reads a batch of the data, as for fastmnist.evaluate

A limit applies to all variants or, under a variant's name, to that one; None skips a check. The
defaults, which the functions share, are in :mod:`fastmnist.testing.limits`.

====================  ===============================================  =================
limit                 check                                            default
====================  ===============================================  =================
``accuracy_drop``     the metric at most so much worse: accuracy in    0.5 points; 0.005
                      points, others in their own unit                 of r2, f1, auc
``agreement``         at least this share of rows in the same class    0.98
``r2``                of a regression: R² of the outputs against the   0.98
                      reference's, at least
``max_error``         no output further than this from the             skipped
                      reference's, in the outputs' unit
``sqnr``              at least so many dB                              15
``smaller``           at least so many times smaller                   0.99 (no larger)
``bit_equal``         compiled and module path, one batch or many      where it is ours
``faster``            at least so many times faster at batch 1         skipped
``no_worse``          with a baseline: the metric at most so much      0.1 points; 0.001
                      worse than stored                                of r2, f1, auc; else
                                                                       a thousandth of it
====================  ===============================================  =================

The metric is accuracy if targets are classes, R² if they are other floats, or set by ``--metric``,
for a function together with ``--greater-is-better``. ``agreement`` applies only to classifiers,
``r2`` only to regressions.

Names are needed when tests are collected, so the fixtures run then, once for the whole suite.
pytest's own ``request`` does not exist yet, so fixtures that need it (``tmp_path_factory``, …)
cannot be used. Your own tests that request these fixtures run them again, as usual in pytest.

The short options (``--variants``, ``--data``, ``--metric``, ``--greater-is-better``,
``--batch-fn``, ``--baseline``, ``--update-baseline``) exist if ``fastmnist.testing`` is on the
command line; with the prefix ``--fastmnist-``, they always do.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pytest

from fastmnist.testing import checks
from fastmnist.testing.limits import DEFAULTS, in_words


@dataclass
class Suite:
    """What the suite checks.

    Attributes
    ----------
    data : Any
    variants : dict
        The first is the reference.
    limits : dict
    metric : Metric or None
    batch_fn : callable or None
    """

    data: Any
    variants: dict[str, Any]
    limits: dict[str, Any] = field(default_factory=dict)
    metric: Any = None
    batch_fn: Any = None

    @property
    def reference(self) -> Any:
        return next(iter(self.variants.values()))

    @property
    def checked(self) -> list[str]:
        return [*self.variants][1:]

    @cached_property
    def is_regression(self) -> bool:
        """Whether the outputs are numbers and not classes."""
        return checks.is_regression(self.reference, self.data, self.batch_fn)

    def leaves_out(self, check: str, variant: str) -> bool:
        """Whether a check does not apply to this kind of model, or was not requested."""
        if check == "r2" and not self.is_regression:
            return True
        return check in ("r2", "max_error") and self.limit(check, variant) is None

    def limit(self, check: str, variant: str = "") -> Any:
        """The limit of one check for one variant; None skips it."""
        own = self.limits.get(variant)
        if isinstance(own, dict) and check in own:
            return own[check]
        return self.limits.get(check, DEFAULTS[check])


_SUITES = pytest.StashKey[dict[Any, Suite]]()


_OPTIONS: dict[str, dict[str, Any]] = {
    "variants": {"metavar": "pkg.mod:fn", "help": "a function that returns the variants"},
    "data": {"metavar": "NAME", "help": "mnist, digits, auto, or pkg.mod:fn that returns data"},
    "metric": {"metavar": "NAME", "help": "accuracy, mse, mae, rmse, r2, f1, auc, or pkg.mod:fn"},
    "greater-is-better": {"metavar": "yes|no", "help": "direction of your own --metric"},
    "batch-fn": {"metavar": "pkg.mod:fn", "help": "a function that reads a batch of the data"},
    "baseline": {"metavar": "FILE", "help": "stored report to compare with"},
    "update-baseline": {"action": "store_true", "help": "store the report as baseline"},
}
_SUITE = ("fastmnist.testing", "fastmnist.testing.test_variants")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = _group(parser)
    for name, about in _OPTIONS.items():
        group.addoption(f"--fastmnist-{name}", dest=_dest(name), **about)
    for check in DEFAULTS:
        if check == "bit_equal":
            continue
        group.addoption(
            f"--fastmnist-{check.replace('_', '-')}",
            dest=f"fastmnist_limit_{check}",
            type=float,
            metavar="X",
            help=f"limit of the check '{check}' (default: {in_words(check)})",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    # Short names only where the suite is asked for by name: anybody's conftest may have a --data.
    if "--pyargs" not in args or not any(argument.split("::")[0] in _SUITE for argument in args):
        return
    for name, about in _OPTIONS.items():
        with contextlib.suppress(ValueError):  # another plugin has it
            _group(parser).addoption(f"--{name}", dest=_dest(name), **about)


def _group(parser: pytest.Parser) -> Any:
    return parser.getgroup("fastmnist", "comparison of optimized models")


def _dest(name: str) -> str:
    return f"fastmnist_{name.replace('-', '_')}"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("fastmnist_update_baseline") and not config.getoption("fastmnist_baseline"):
        raise pytest.UsageError("--update-baseline: expected --baseline=FILE too, to write to")


@pytest.fixture(scope="session")
def fastmnist_data(pytestconfig: pytest.Config) -> Any:
    """Data to compare variants on: override, or give --data."""
    return _data_of(pytestconfig.getoption("fastmnist_data") or "auto")


@pytest.fixture(scope="session")
def fastmnist_metric(pytestconfig: pytest.Config) -> Any:
    """Metric to judge models by: override, or give --metric and --greater-is-better."""
    spec = pytestconfig.getoption("fastmnist_metric")
    return _named(spec, "--metric") if spec and ":" in spec else spec


@pytest.fixture(scope="session")
def fastmnist_batch_fn(pytestconfig: pytest.Config) -> Any:
    """Function that reads batches of the data: override, or give --batch-fn."""
    spec = pytestconfig.getoption("fastmnist_batch_fn")
    return _named(spec, "--batch-fn") if spec else None


@pytest.fixture(scope="session")
def fastmnist_variants(pytestconfig: pytest.Config, fastmnist_data: Any) -> Any:
    """Name to model, the reference first: override, or give --variants."""
    spec = pytestconfig.getoption("fastmnist_variants")
    function = _named(spec, "--variants")
    takes_data = bool(inspect.signature(function).parameters)
    return function(fastmnist_data) if takes_data else function()


@pytest.fixture(scope="session")
def fastmnist_limits() -> dict[str, Any]:
    """Limits: override to set your own."""
    return {}


@pytest.fixture
def fastmnist_suite(request: pytest.FixtureRequest) -> Suite:
    """Variants, data and limits, made once."""
    return _suite(request.session, request.node)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip checks that do not apply to the models."""
    left = [item for item in items if _is_left_out(item)]
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


def _is_left_out(item: pytest.Item) -> bool:
    variant = getattr(getattr(item, "callspec", None), "params", {}).get("fastmnist_variant")
    check = str(getattr(item, "originalname", "")).removeprefix("test_")
    if variant is None or check not in DEFAULTS:
        return False
    try:
        return _suite(item.session, item).leaves_out(check, variant)
    except Exception:  # of the user's model or data: the check itself will tell it better
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fastmnist_variant" in metafunc.fixturenames:
        try:
            suite = _suite(metafunc.definition.session, metafunc.definition)
        except pytest.UsageError as error:  # its message is enough, without a traceback
            raise pytest.Collector.CollectError(str(error)) from None
        metafunc.parametrize("fastmnist_variant", suite.checked)


def _suite(session: pytest.Session, node: Any) -> Suite:
    suites = session.config.stash.setdefault(_SUITES, {})
    resolver = _Resolver(session, node)
    given = session.config.getoption("fastmnist_variants")
    if not given and resolver.is_ours("fastmnist_variants"):
        raise pytest.UsageError(
            "fastmnist.testing: expected variants, got none: override the fixture "
            "fastmnist_variants in the conftest.py of the folder you start pytest in, or give "
            "--variants=pkg.mod:fn"
        )
    names = ("fastmnist_variants", "fastmnist_data", "fastmnist_metric", "fastmnist_batch_fn")
    key = tuple(resolver.identity(name) for name in names)
    if key not in suites:
        data, variants = resolver("fastmnist_data"), resolver("fastmnist_variants")
        limits = {**resolver("fastmnist_limits"), **_limits_given(session.config)}
        suites[key] = Suite(
            data,
            _checked(variants),
            _checked_limits(limits, variants),
            _checked_metric(resolver("fastmnist_metric"), session.config),
            resolver("fastmnist_batch_fn"),
        )
    return suites[key]


class _Resolver:
    """Values of fixtures before there is a test to ask for them."""

    def __init__(self, session: pytest.Session, node: Any) -> None:
        self.session, self.node = session, node
        self.values: dict[tuple[str, int], Any] = {}

    def _definitions(self, name: str) -> Any:
        manager = self.session._fixturemanager
        found = manager.getfixturedefs(name, self.node)
        if not found:
            raise pytest.UsageError(f"fastmnist.testing: no fixture '{name}' where it is needed")
        return found

    def is_ours(self, name: str) -> bool:
        """Whether the fixture is not overridden."""
        return getattr(self._definitions(name)[-1].func, "__module__", "") == __name__

    def identity(self, name: str) -> int:
        return id(self._definitions(name)[-1].func)

    def __call__(self, name: str, above: int = 0) -> Any:
        if name == "pytestconfig":
            return self.session.config
        if name == "request":
            raise pytest.UsageError(
                "fastmnist.testing: fastmnist_variants and fastmnist_data are needed when tests "
                "are collected, before there is a request: let them ask for fixtures that do "
                "without it"
            )
        key = (name, above)
        if key not in self.values:
            definition = self._definitions(name)[-1 - above]
            # A fixture that asks for its own name means the one that it overrides.
            given = {
                argument: self(argument, above + 1 if argument == name else 0)
                for argument in definition.argnames
            }
            value = definition.func(**given)
            if inspect.isgenerator(value):
                generator = value
                value = next(generator)
                self.session.config.add_cleanup(partial(_finish, generator))
            self.values[key] = value
        return self.values[key]


def _finish(generator: Any) -> None:
    next(generator, None)


def _checked(variants: Any) -> dict[str, Any]:
    if not isinstance(variants, dict) or len(variants) < 2:
        got = f"{len(variants)}" if isinstance(variants, dict) else type(variants).__name__
        raise pytest.UsageError(
            "fastmnist_variants: expected a dict of the reference and at least one variant, got "
            f"{got}"
        )
    return dict(variants)


def _checked_limits(limits: dict[str, Any], variants: dict[str, Any]) -> dict[str, Any]:
    for name, value in limits.items():
        known = name in DEFAULTS or (name in variants and isinstance(value, dict))
        inner = value if isinstance(value, dict) and name not in DEFAULTS else {}
        unknown = [check for check in inner if check not in DEFAULTS]
        if not known or unknown:
            raise pytest.UsageError(
                f"fastmnist_limits: expected checks ({', '.join(DEFAULTS)}) or variants with such, "
                f"got '{unknown[0] if unknown else name}'"
            )
    return limits


def _limits_given(config: pytest.Config) -> dict[str, Any]:
    given = {
        check: config.getoption(f"fastmnist_limit_{check}", None)
        for check in DEFAULTS
        if check != "bit_equal"
    }
    return {check: value for check, value in given.items() if value is not None}


def _checked_metric(metric: Any, config: pytest.Config) -> Any:
    """The metric, with the direction that the suite needs."""
    from fastmnist.measuring.metrics import directed_metric

    said = config.getoption("fastmnist_greater_is_better")
    directions = {None: None, "yes": True, "true": True, "no": False, "false": False}
    if said is not None and said.lower() not in directions:
        raise pytest.UsageError(f"--greater-is-better: expected yes or no, got {said}")
    try:
        return directed_metric(
            metric, directions[said and said.lower()], "the suite (--greater-is-better=yes or no)"
        )
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"fastmnist_metric, --metric: {error}") from error


def _data_of(spec: str) -> Any:
    if ":" in spec:
        made = _named(spec, "--data", callable_only=False)
        return made() if callable(made) else made
    from fastmnist.data import load_dataset

    try:
        return load_dataset(spec)
    except ValueError as error:
        raise pytest.UsageError(
            f"--data={spec}: expected mnist, digits, auto or pkg.mod:fn: {error}"
        ) from error


def _named(spec: str, option: str, callable_only: bool = True) -> Any:
    from fastmnist.command.references import find

    try:
        function = find(spec, option, "pkg.mod:fn")
    except ValueError as error:
        raise pytest.UsageError(f"{option}={spec}: expected pkg.mod:fn, got {error}") from error
    if callable_only and not callable(function):
        raise pytest.UsageError(f"{option}={spec}: expected a function, got {function!r}")
    return function
