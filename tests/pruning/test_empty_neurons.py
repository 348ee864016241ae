"""prune(remove_empty=True): neurons without weights are removed for good, without loss."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import ControlFlow, Residual, assert_unchanged, make, snapshot
from torch import nn

import fastmnist as fm
from fastmnist.pruning.empty import remove_empty_neurons

X = torch.linspace(-1, 1, 20 * 6).reshape(20, 6)
NOTHING = fm.L1Unstructured(1)  # one weight: what else goes is what was empty before


def mlp(*widths: int, activation=nn.ReLU, bias: bool = True, seed: int = 0) -> nn.Sequential:
    def layers():
        for a, b in itertools.pairwise(widths):
            yield nn.Linear(a, b, bias=bias)
            yield activation()

    return make(lambda: nn.Sequential(*[*layers()][:-1]), seed).eval()


def widths(model: nn.Module) -> list[int]:
    return [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]


def emptied(model: nn.Sequential, rows=(), columns=()) -> nn.Sequential:
    """Without the incoming weights of `rows`, the outgoing ones of `columns`, (layer, neuron)."""
    with torch.no_grad():
        for layer, neuron in rows:
            model[layer].weight[neuron] = 0
        for layer, neuron in columns:
            model[layer + 2].weight[:, neuron] = 0
    return model


@given(
    seed=st.integers(0, 1000),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity]),
    amounts=st.tuples(*[st.sampled_from([0.3, 0.8, 0.95])] * 3),
)
def test_outputs_stay_the_same(seed, activation, amounts):
    model = mlp(6, 8, 7, 3, activation=activation, seed=seed)
    amounts = dict(zip(("0", "2", "4"), amounts, strict=True))
    pruned = fm.prune(model, fm.L1Unstructured(0.5), amounts=amounts)
    small = fm.prune(model, fm.L1Unstructured(0.5), amounts=amounts, remove_empty=True)
    assert torch.allclose(small(X), pruned(X), atol=1e-5)
    assert widths(small) <= widths(pruned)
    for layer, reader in ((small[0], small[2]), (small[2], small[4])):
        if layer.out_features > 1:
            assert bool(layer.weight.any(1).all())
            assert bool(reader.weight.any(0).all())


def test_what_is_empty_goes_and_the_input_is_untouched():
    model = emptied(mlp(6, 8, 7, 3), rows=[(0, 2), (2, 0)], columns=[(0, 5), (2, 6)]).train()
    before = snapshot(model)
    small = fm.prune(model, NOTHING, remove_empty=True, example=X)
    assert_unchanged(model, before)
    assert widths(small) == [6, 5, 3]
    assert small[0].in_features == 6
    assert [str(c) for c in fm.changes(small)][-2:] == [
        "0: pruned: 6 of 8 neurons are left: those that gave nothing, or a constant, are gone",
        "2: pruned: 5 of 7 neurons are left: those that gave nothing, or a constant, are gone",
    ]
    assert fm.changes(small)[-1].checked == "rows"
    assert widths(fm.prune(model, NOTHING)) == [8, 7, 3]


def test_a_constant_goes_into_the_next_bias():
    model = emptied(mlp(6, 8, 3, activation=nn.Tanh), rows=[(0, 1)])
    small = fm.prune(model, NOTHING, include="0", remove_empty=True)
    value = model[0].bias[1].double().tanh()
    expected = model[2].bias.double() + model[2].weight[:, 1].double() * value
    assert torch.allclose(small[2].bias.double(), expected, atol=1e-7)


def test_one_that_goes_empties_others():
    """The only reader of a neuron is a neuron that nobody reads."""
    model = mlp(6, 4, 5, 3)
    with torch.no_grad():
        model[2].weight[:4, 1] = 0  # neuron 1 of the first layer is read by neuron 4 alone
        model[4].weight[:, 4] = 0  # which nobody reads
        model[2].weight[0] = 0
        model[2].weight[0, 2] = 1  # neuron 0 reads neuron 2 alone
        model[0].weight[2] = 0  # which is a constant
    small = fm.prune(model, NOTHING, remove_empty=True, example=X)
    assert widths(small) == [2, 3, 3]


def test_one_neuron_stays():
    model = emptied(mlp(6, 4, 3), rows=[(0, i) for i in range(4)])
    small = fm.prune(model, NOTHING, remove_empty=True)
    assert widths(small) == [1, 3]
    assert torch.allclose(small(X), fm.prune(model, NOTHING)(X), atol=1e-6)
    whole = fm.prune(mlp(6, 4, 3), fm.L1Unstructured(1.0), remove_empty=True)
    assert widths(whole) == [1, 3]
    assert torch.allclose(whole(X), mlp(6, 4, 3)[2].bias.expand(20, 3), atol=1e-6)


def test_without_a_bias_only_constants_of_zero_go():
    model = mlp(6, 8, 3, activation=nn.Sigmoid, bias=False)
    small = fm.prune(emptied(model, rows=[(0, 1)], columns=[(0, 2)]), NOTHING, remove_empty=True)
    assert widths(small) == [7, 3]  # neuron 1 gives 0.5, which has nowhere to go
    small = fm.prune(emptied(mlp(6, 8, 3, bias=False), rows=[(0, 1)]), NOTHING, remove_empty=True)
    assert widths(small) == [7, 3]


def test_norms_and_masks_shrink_along():
    model = make(
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
        )
    )
    model(X)
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[1].bias.normal_()
    small = fm.prune(model.eval(), fm.L1Unstructured(0.2), remove_empty=True, example=X)
    assert small[1].num_features == 6
    assert small[0].weight_mask.shape == (6, 6)
    again = fm.unprune(small)
    assert again[0].weight.shape == (6, 6)


def test_a_norm_over_positions_stays_apart():
    model = make(lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))).eval()
    rows = torch.linspace(-1, 1, 5 * 3 * 4).reshape(5, 3, 4)
    with torch.no_grad():
        model[0].weight[1] = 0
        model[1].bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    result = fm.prune(model, NOTHING, include="0", remove_empty=True, example=rows)
    assert widths(result) == [3, 2]
    assert torch.allclose(result(rows), model(rows), atol=1e-6)
    assert "1 empty neuron stays, as what it gives goes into a BatchNorm1d" in str(
        fm.changes(result)[-1]
    )
    with pytest.raises(ValueError, match="give example="):
        fm.prune(model, NOTHING, include="0", remove_empty=True)(rows)


def test_where_nothing_can_be_followed_it_is_said():
    model = make(Residual).eval()
    with torch.no_grad():
        model.b.weight[:2] = 0
    result = fm.prune(model, fm.L1Unstructured(1), remove_empty=True)
    told = {c.layer: str(c) for c in fm.changes(result) if c.kind == "other"}
    assert told == {"b": "b: 2 empty neurons stay, as what it gives goes into 'add'"}
    with pytest.raises(ValueError, match=r"remove_empty: expected a forward that torch\.fx"):
        fm.prune(make(ControlFlow), NOTHING, remove_empty=True)
    with pytest.raises(ValueError, match="prepared already"):
        fm.prune(fm.prepare_qat(mlp(6, 8, 3), fm.QAT()), NOTHING, remove_empty=True)


def test_the_digits_network(digits, trained):
    amounts = {"linear1": 0.95, "linear2": 0.95}
    options = {"amounts": amounts, "finetune": digits, "epochs": 2, "exclude": "linear3"}
    torch.manual_seed(0)
    pruned = fm.prune(trained, fm.L1Unstructured(0.95, "layer"), **options)
    torch.manual_seed(0)
    small = fm.prune(trained, fm.L1Unstructured(0.95, "layer"), remove_empty=True, **options)
    assert widths(small) < widths(pruned)
    x = digits.test.pixels.to_float(digits.test.images)
    assert torch.allclose(small(x), pruned(x), atol=1e-4)
    assert fm.evaluate(small, digits) == fm.evaluate(pruned, digits)


def test_with_structured_and_in_place():
    model = emptied(mlp(6, 16, 8, 3), rows=[(2, 0)])
    small = fm.prune(model, fm.Structured(0.5, multiple_of=1), include="0", remove_empty=True)
    assert widths(small) == [8, 7, 3]
    assert fm.prune(model, NOTHING, remove_empty=True, inplace=True) is model
    assert widths(model) == [16, 7, 3]


def test_low_rank_layers_lose_ranks():
    thin = fm.factorize(mlp(6, 16, 8, 3), fm.LowRank(rank={"2": 4}))
    with torch.no_grad():
        thin[2].first.weight[1] = 0
        thin[2].second.weight[:, 3] = 0
    small = fm.prune(thin, NOTHING, remove_empty=True, example=X)
    assert small[2].rank == 2


def test_every_way_to_hold_a_module(tmp_path):
    model = emptied(mlp(6, 8, 7, 3), rows=[(0, 2)], columns=[(2, 6)])
    small = fm.prune(model, fm.L1Unstructured(0.3), remove_empty=True)
    with torch.no_grad():
        want = small(X)
        for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
            assert torch.equal(again(X), want)
        fm.save(tmp_path / "small.safetensors", small)
        for into in (None, mlp(6, 8, 7, 3)):
            assert torch.equal(fm.load(tmp_path / "small.safetensors", into=into)(X), want)
        exported = torch.export.export(small, (X,)).module()
        assert torch.allclose(exported(X), want, atol=1e-6)
        q = fm.quantize(small, fm.Static(X))
        assert torch.equal(fm.compile(q)(X), q(X))


def test_explain_names_them():
    model = emptied(mlp(6, 8, 7, 3), rows=[(0, 2), (2, 0)], columns=[(0, 5)])
    text = str(fm.compile(model, X).explain())
    assert "0 2 of 8, 2 1 of 7; fm.prune(…, remove_empty=True) removes" in " ".join(text.split())
    small = fm.prune(model, NOTHING, remove_empty=True)
    assert "empty neurons" not in str(fm.compile(small, X).explain())


def test_the_function_for_those_who_save():
    model = emptied(mlp(6, 8, 3), rows=[(0, 2)])
    want = model(X)
    assert [c.layer for c in remove_empty_neurons(model)] == ["0"]
    assert torch.allclose(model(X), want, atol=1e-6)
    assert remove_empty_neurons(model) == []
    assert remove_empty_neurons(make(ControlFlow)) == []
