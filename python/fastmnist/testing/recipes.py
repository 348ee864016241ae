"""A check of what a recipe makes of a model, and of what that loses."""

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
    """Apply a recipe to `model`, check that the result is at most `max_drop` worse, and return it.

    Parameters
    ----------
    recipe : str, Recipe or tuple
        As for :func:`fastmnist.optimize`.
    model : torch.nn.Module
        A trained float model; left unchanged.
    data : Data, Split, DataLoader, (x, y), …
        Data to train and calibrate on; for a bundle, its training half.
    max_drop : float, optional
        In points of accuracy, or another metric's unit. Default: the recipe's own, for accuracy
        only.
    test : data, optional
        Data to measure on. Default: for a bundle, its test half; for other data, every tenth row.
    smaller : float, optional
        How many times smaller the file must be.
    metric, greater_is_better, batch_fn
        As for :func:`fastmnist.evaluate`.
    options
        As for :func:`fastmnist.optimize`, such as ``seed`` or ``loss_fn``.

    Returns
    -------
    torch.nn.Module
        The result of the recipe, for further checks.

    Raises
    ------
    AssertionError
        With what was lost, and n.
    TypeError, ValueError
        If the recipe is invalid or cannot be applied, or there is no limit for its loss.

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
