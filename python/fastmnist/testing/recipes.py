"""A check that a recipe is worth it for a model: what it makes, and what that loses."""

from __future__ import annotations

from typing import Any


def assert_recipe_holds(
    recipe: Any,
    model: Any,
    data: Any,
    *,
    max_drop: float | None = None,
    test: Any = None,
    smaller: float | None = None,
    metric: Any = None,
    greater_is_better: bool | None = None,
    batch_fn: Any = None,
    **options: Any,
) -> Any:
    """Check that what a recipe makes of `model` is at most `max_drop` worse; return it.

    Parameters
    ----------
    recipe : str, Recipe or tuple
        As for :func:`fastmnist.optimize`.
    model : torch.nn.Module
        A trained float model; left unchanged.
    data : Data, Split, DataLoader, (x, y), …
        To train and calibrate on; for a bundle, its training half.
    max_drop : float, optional
        Points of accuracy, or another metric's unit. Default: what the recipe itself says, of
        accuracy alone.
    test : data, optional
        To measure on. Default: for a bundle, its test half; of other data, every tenth row.
    smaller : float, optional
        How many times smaller its file has to be.
    metric, greater_is_better, batch_fn
        As for :func:`fastmnist.evaluate`.
    options
        As for :func:`fastmnist.optimize`, such as ``seed`` or ``loss_fn``.

    Returns
    -------
    torch.nn.Module
        What the recipe made, for further checks.

    Raises
    ------
    AssertionError
        With what was lost, and n.
    TypeError, ValueError
        If the recipe is none, can't be carried out, or nothing says how much it may lose.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data, model = fm.load_dataset("digits"), fm.NeuralNetwork()
    >>> history = fm.train(model, data, epochs=2, seed=0)
    >>> made = assert_recipe_holds("prune50+int8", model, data, max_drop=3, smaller=4)
    """
    __tracebackhide__ = True
    from fastmnist.searching.optimizing import check_max_drop, optimize
    from fastmnist.searching.recipe import Recipe
    from fastmnist.searching.splitting import held_out
    from fastmnist.searching.tuning import seeded
    from fastmnist.testing.checks import assert_accuracy_drop, assert_smaller

    read = Recipe.of(recipe)
    most = read.max_drop if max_drop is None else max_drop
    if most is None:
        raise ValueError(
            f"max_drop: expected how much '{read}' may lose, got None: recipes by name know it"
        )
    check_max_drop(most)
    # What a recipe says is in points of accuracy, and says nothing about another metric.
    limit = most if max_drop is not None else {"accuracy": most}
    rows, judged = data, test
    if test is None:
        with seeded(0):  # a DataLoader that shuffles draws numbers, too
            rows, judged = held_out(data, batch_fn, share=0.1, seed=0)
    made = optimize(model, rows, read, batch_fn=batch_fn, **options)
    try:
        assert_accuracy_drop(
            made,
            model,
            judged,
            max=limit,
            metric=metric,
            greater_is_better=greater_is_better,
            batch_fn=batch_fn,
        )
        if smaller is not None:
            assert_smaller(made, model, ratio=smaller)
    except AssertionError as error:
        raise AssertionError(f"recipe '{read}': {error}") from None
    return made
