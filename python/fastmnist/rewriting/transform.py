"""One way to transform: copy, find, select, apply, verify, record.

What a transform is to do is a :class:`Transform`: which layers it can change, what it does once,
what it does to a model, and what its result is held against. Everything around that is here, once:
copies, ``include=`` and ``exclude=``, ``inplace=``, ``max_drop=``, verification, and the record
that :func:`fastmnist.changes` reads. A configuration (``Static(…)``) names its transform by
:func:`applies`; a recipe is a sequence of configurations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from torch import nn

from fastmnist.layers.batchnorm import OverPositions
from fastmnist.measuring.budget import layers_within
from fastmnist.measuring.metrics import MetricLike, directed_metric
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.rewriting.changes import NOT_RUN, Change, mark_checked, record
from fastmnist.rewriting.copies import (
    CannotCopy,
    check_module,
    checked_copy,
    plain_copy,
    scratch_copy,
    without_compilers,
)
from fastmnist.rewriting.graph import Graph, Traces
from fastmnist.rewriting.questions import check_asks_nothing
from fastmnist.rewriting.selection import Names, Selected, selection
from fastmnist.rewriting.verify import (
    Rows,
    check_outputs,
    check_same_steps,
    traces_are_alike,
    worst_of,
)


class Transform(ABC):
    """What one transform does; one object serves one call.

    Attributes
    ----------
    floor : float
        dB below which the outputs of a result deserve a word.
    keeps_device : bool
        Whether a result stays on its device, of its dtype, in its mode. Else it is float32 on the
        CPU, in eval mode.
    sizes_change : bool
        Whether layers may get other sizes.
    rows : Rows or None
        Rows that the transform was given, for instance to calibrate on.
    begins_on_copy : bool
        Whether :meth:`begin` changes the copy that it is given.
    renames_weights : bool
        Whether parameters are called otherwise afterwards, as under masks.
    norms_apart : frozenset of str
        Layers that no BatchNorm1d is to be folded into: rows showed that it normalizes another
        dimension than theirs.
    """

    floor: float = 15.0
    keeps_device: bool = False
    begins_on_copy: bool = False
    sizes_change: bool = False
    rows: Rows | None = None
    norms_apart: frozenset[str] = frozenset()
    renames_weights: bool = False

    @abstractmethod
    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        """The layers that could be changed, by their first name.

        `root` is a copy that may share its weights with the model: they are only to be read.

        Raises
        ------
        ValueError
            If the model cannot be transformed.
        """

    def narrow(self, chosen: dict[str, nn.Module], traces: Traces) -> dict[str, nn.Module]:
        """Leave out those of the selected layers that cannot be changed after all."""
        return chosen

    def begin(self, root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        """Do once what costs, as calibrating does, on the copy that :meth:`find` saw."""
        return

    @abstractmethod
    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        """Change layers of `root` itself; `why` says for what reason others are left."""

    def called(self, names: Collection[str]) -> Collection[str]:
        """Those of the changed layers that rows must reach."""
        return ()

    def reference(self, original: nn.Module, result: nn.Module) -> nn.Module | None:
        """What the result's outputs are held against; None where that cannot be known.

        `original` is a copy that may share its weights with the model.
        """
        return original

    def layerwise(self, original: nn.Module) -> nn.Module | None:
        """A float model that has the result's values at the result's paths, to name a layer."""
        return None


class Maker:
    """A model that is ready to be transformed, as often as one likes.

    Attributes
    ----------
    layers : dict
        What was selected, by name, as it is in a copy of the model.
    """

    def __init__(
        self,
        model: Any,
        how: Transform,
        *,
        include: Names = None,
        exclude: Names = None,
        select: Selected | None = None,
        example: Any = None,
        check: float | None = None,
    ) -> None:
        self.original, self.how = check_module(model), how
        self._floor = _checked_floor(check)
        pixels = model_pixels(self.original) or PixelNormalization()
        self._example = None if example is None else Rows.of(example, pixels)
        self._ways: dict[str, Graph] = {}
        # What is trained on may change parameters that it finds; all else reads them.
        scratch = self._copy() if how.keeps_device else scratch_copy(self.original)
        self._begin(scratch, include, exclude, select)

    def _begin(
        self, scratch: nn.Module, include: Names, exclude: Names, select: Selected | None
    ) -> None:
        layers = self.how.find(scratch)
        if select is None and layers and not (include is None and exclude is None):
            select = selection(scratch, layers, include, exclude)
        if select is not None:
            layers = {name: layer for name, layer in layers.items() if select(name, layer)}
        traces = Traces.of(scratch)
        self.layers: dict[str, nn.Module] = self.how.narrow(layers, traces)
        self._ways = traces.ways
        self.how.begin(scratch, self.layers)

    def _copy(self) -> nn.Module:
        return checked_copy(self.original) if self.how.keeps_device else plain_copy(self.original)

    def make(self, names: Collection[str], why: str = "excluded") -> nn.Module:
        """Return a copy with these layers changed, not yet verified."""
        return self._apply(self._copy(), names, why)[0]

    def verified(self, names: Collection[str], why: str = "excluded") -> nn.Module:
        """Return a copy with these layers changed, held against the original.

        Raises
        ------
        ValueError
            If it does other things than the original.
        """
        result, done = self._apply(self._copy(), names, why, keep_record=False)
        record(result, mark_checked(done, self._verify(result, done)))
        return result

    def in_place(self, names: Collection[str], why: str = "excluded") -> nn.Module:
        """Change the model itself: first a copy, verified, so that no error comes half way."""
        root = self._copy()
        rehearsed, done = self._apply(root, names, why, keep_record=False)
        if rehearsed is not root:
            raise _single_layer()
        checked = self._verify(rehearsed, done)
        result, done = self._apply(self._itself(), names, why, keep_record=False)
        record(result, mark_checked(done, checked))
        return result

    def _itself(self) -> nn.Module:
        model = without_compilers(self.original)
        return model if self.how.keeps_device else model.cpu().float().eval()

    def _apply(
        self, root: nn.Module, names: Collection[str], why: str, *, keep_record: bool = True
    ) -> tuple[nn.Module, list[Change]]:
        pixels = model_pixels(root)
        result, done = self.how.apply(root, names, why)
        if pixels is not None and model_pixels(result) is None:
            set_model_pixels(result, pixels)
        if keep_record:
            record(result, done)
        return result, done

    def _verify(self, result: nn.Module, done: list[Change]) -> str:
        """How the result was held against the original; an error where it does other things."""
        if self._ways:
            try:
                check_same_steps(self._ways, result, sizes_change=self.how.sizes_change)
            except ValueError:
                if traces_are_alike(self.original):
                    raise
                self._ways = {}
        rows = self._example or self.how.rows
        reference = None
        if rows is not None:
            reference = self.how.reference(scratch_copy(self.original), result)
        looked_at = "graph" if self._ways else NOT_RUN
        if rows is None or reference is None:
            if rows is None and (not self._ways or self.how.renames_weights):
                check_asks_nothing(self.original, only_names=bool(self._ways))
            return looked_at
        names = {change.layer for change in done}

        def worst_layer() -> str:
            other = self.how.layerwise(scratch_copy(self.original))
            called = self.how.called(self.layers)
            if other is None or not called:
                return "leave layers as they are with exclude="
            return worst_of(other, result, rows, called)

        compared = check_outputs(
            reference,
            result,
            rows,
            must_be_called=[n for n in self.how.called(self.layers) if n in names],
            floor=self.how.floor if self._floor is None else self._floor,
            is_error=self._floor is not None,
            worst_layer=worst_layer,
        )
        return "rows" if compared else looked_at


def transformed(
    model: Any,
    how: Transform,
    *,
    include: Names = None,
    exclude: Names = None,
    select: Selected | None = None,
    inplace: bool = False,
    example: Any = None,
    check: float | None = None,
    max_drop: float | None = None,
    data: Any = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: Callable[[Any], Any] | None = None,
) -> nn.Module:
    """Transform a copy of `model`, or itself.

    Parameters
    ----------
    include, exclude, select
        Which of the layers that the transform can change: as :func:`~.selection.selection` reads
        them, or a function of name and layer in their place.
    inplace : bool
        Change `model` itself, and return it; what is not changed stays the same objects.
    example : tensor, tuple of arguments, dict of keywords, or None
        Rows on which original and result are run side by side.
    check : float or None
        dB that the outputs must reach there; None warns below the transform's own floor.
    max_drop, metric, greater_is_better, batch_fn
        How much accuracy may be lost on `data`, in points, or of the `metric`, in its unit: layers
        that disturb the outputs most are left as they were until that holds.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Transform.find` and :class:`Maker` do; if `max_drop` cannot be kept.
    """
    if max_drop is None and (data is not None or metric is not None):
        raise ValueError("data, metric: expected beside max_drop= alone, got none: give it too")
    chosen = directed_metric(metric, greater_is_better, "max_drop")
    while True:
        try:
            return _transformed(
                check_module(model),
                how,
                {"include": include, "exclude": exclude, "select": select},
                example,
                check,
                inplace,
                None if max_drop is None else (max_drop, data, chosen, batch_fn),
            )
        except OverPositions as error:
            if error.layer in how.norms_apart:
                raise
            how.norms_apart |= {error.layer}  # once more, with that norm by itself


def _transformed(
    model: nn.Module,
    how: Transform,
    which: dict[str, Any],
    example: Any,
    check: float | None,
    inplace: bool,
    budget: tuple[Any, ...] | None,
) -> nn.Module:
    try:
        maker = Maker(model, how, **which, example=example, check=check)
    except CannotCopy:
        if (
            not inplace
            or how.begins_on_copy
            or not (example is None and check is None and budget is None)
        ):
            raise  # what these ask for needs a copy
        return _without_copy(model, how, **which)
    names: Collection[str] = [*maker.layers]
    why = "excluded"
    if budget is not None:
        names, why = layers_within(maker.original, maker.make, [*names], *budget)
    return maker.in_place(names, why) if inplace else maker.verified(names, why)


def _without_copy(
    model: nn.Module, how: Transform, include: Names, exclude: Names, select: Selected | None
) -> nn.Module:
    """Change a model that cannot be copied: unrehearsed, and nothing to hold it against."""
    root = model if how.keeps_device else model.cpu().float().eval()
    layers = how.find(root)
    select = select or selection(root, layers, include, exclude)
    chosen = {name: layer for name, layer in layers.items() if select(name, layer)}
    layers = how.narrow(chosen, Traces.of(root))
    result, done = how.apply(root, [*layers], "excluded")
    if result is not model:
        raise _single_layer()
    record(result, mark_checked(done, NOT_RUN))
    return result


def _single_layer() -> ValueError:
    return ValueError("inplace: a single layer cannot change its class: use the returned module")


def _checked_floor(check: Any) -> float | None:
    if check is None:
        return None
    if isinstance(check, bool) or not isinstance(check, int | float):
        raise TypeError(f"check: expected a number of dB, got {type(check).__name__}")
    if not check > 0:
        raise ValueError(f"check: expected more than 0 dB, got {check}")
    return float(check)


# ---- configurations ------------------------------------------------------------------------------

_transforms: dict[type, Callable[[Any], Transform]] = {}
Made = TypeVar("Made", bound=Callable[[Any], Transform])


def applies(config: type) -> Callable[[Made], Made]:
    """Enter how a configuration is applied: ``@applies(Static)`` on what makes its Transform."""

    def enter(make: Made) -> Made:
        _transforms[config] = make
        return make

    return enter


def transform_of(config: Any) -> Transform:
    """The transform of a configuration.

    Raises
    ------
    TypeError
        If it is none that is known.
    """
    if type(config) not in _transforms:
        known = ", ".join(sorted(cls.__name__ for cls in _transforms))
        raise TypeError(f"config: expected one of {known}, got {type(config).__name__}")
    return _transforms[type(config)](config)
