"""The network and the table of its layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from fastmnist.measuring.summary import summarize, summary
from fastmnist.network import NeuralNetwork

TABLE = """\
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
           Flatten-1                  [-1, 784]               0
            Linear-2                   [-1, 96]          75,360
              ReLU-3                   [-1, 96]               0
           Dropout-4                   [-1, 96]               0
            Linear-5                  [-1, 256]          24,832
              ReLU-6                  [-1, 256]               0
           Dropout-7                  [-1, 256]               0
            Linear-8                   [-1, 10]           2,570
================================================================
Total params: 102,762
Trainable params: 102,762
Non-trainable params: 0
----------------------------------------------------------------
Input size (MB): 0.00
Forward/backward pass size (MB): 0.01
Params size (MB): 0.39
Estimated Total Size (MB): 0.41
----------------------------------------------------------------
"""


def test_network_is_the_one_everyone_knows():
    names = [name for name, _ in NeuralNetwork().named_children()]
    layers = ["linear1", "relu1", "dropout1", "linear2", "relu2", "dropout2", "linear3"]
    assert names == ["flatten", *layers]
    with_dropout, without = NeuralNetwork(), NeuralNetwork(use_dropout=False)
    assert with_dropout.dropout1.p == with_dropout.dropout2.p == 0.2
    assert isinstance(without.dropout1, nn.Identity)
    assert isinstance(without.dropout2, nn.Identity)
    without.load_state_dict(with_dropout.state_dict())
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(with_dropout.eval()(x), without(x))
    assert without(x).shape == (3, 10)


def test_prints_what_torchsummary_prints(capsys):
    assert summary(NeuralNetwork(), (1, 28, 28)) is None
    assert capsys.readouterr().out == TABLE
    assert str(summarize(NeuralNetwork(), 784)) + "\n" == TABLE


def test_leaves_the_model_as_it_was():
    model = NeuralNetwork()
    model.dropout1.eval()
    state = torch.get_rng_state()
    summarize(model)
    with pytest.raises(ValueError, match="input_size"):
        summarize(model, (3, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.dropout2.training
    assert not model.dropout1.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_pruned_frozen_and_shared_layers():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    prune.l1_unstructured(model[0], "weight", 0.5)
    model[2].requires_grad_(False)
    found = summarize(model, (4,))
    assert [row.params for row in found.layers] == [20, 0, 10]
    assert (found.total_params, found.trainable_params) == (30, 20)
    twice = nn.Linear(4, 4)
    found = summarize(nn.Sequential(twice, twice), (4,))
    assert [row.params for row in found.layers] == [20, 0]
    assert found.total_params == 20


class Int8Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, 4, dtype=torch.int8))
        self.register_buffer("bias", torch.zeros(3))
        self.register_buffer("weight_scale", torch.zeros(3))

    def forward(self, x):
        return x[:, :3]


def test_quantized_layers_count_their_buffers():
    found = summarize(nn.Sequential(nn.Flatten(), Int8Linear()), (4,))
    assert found.layers[1].params == found.total_params == 15
    assert found.trainable_params == 0
    assert found.params_mb == pytest.approx((12 + 12) / 1024**2)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 5, batch_first=True)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, a, b):
        return self.layer(torch.cat([a, b], 1))


def test_several_inputs_and_outputs_and_own_parameters():
    found = summarize(TwoInputs(), [(2, 3), (4, 3)], batch_size=8)
    assert found.layers[0].output_shapes[0] == (8, 6, 5)
    assert found.layers[-1].name == "TwoInputs-2"
    assert found.layers[-1].params == 1
    assert "[[8, 6, 5]" in str(found)


def test_other_types_of_model():
    assert summarize(nn.Linear(4, 2).to(torch.bfloat16), (4,)).params_mb == pytest.approx(
        20 / 1024**2
    )
    assert summarize(nn.Sequential(nn.Flatten()), (1, 2)).total_params == 0
    with pytest.raises(TypeError, match="model"):
        summarize(len)
    for size in ((0, 2), ("a",), 1.5):
        with pytest.raises(ValueError, match="input_size"):
            summarize(nn.Linear(4, 2), size)


class Clicks(nn.Module):
    """Words and numbers: two inputs of two types."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(50, 8)
        self.head = nn.Linear(11, 3)

    def forward(self, words, numbers):
        return self.head(torch.cat([self.words(words), numbers], 1))


def test_integer_inputs():
    sizes, words, numbers = [(5,), (3,)], torch.ones(4, 5, dtype=torch.int64), torch.rand(4, 3)
    by_type = summarize(Clicks(), sizes, dtypes=[torch.int64, torch.float32])
    assert [row.output_shapes for row in by_type.layers] == [((-1, 8),), ((-1, 3),)]
    assert by_type.input_mb == pytest.approx((5 * 8 + 3 * 4) / 1024**2)
    for example in ((words, numbers), {"words": words, "numbers": numbers.numpy()}):
        assert summarize(Clicks(), example=example) == by_type
    tokens = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(8, 1))
    assert summarize(tokens, 4, dtypes=torch.int32).layers[0].output_shapes == ((-1, 4, 2),)
    assert summarize(tokens, example=words[:1, :4]) == summarize(tokens, 4, dtypes=torch.int64)


def test_integer_inputs_that_are_not_said():
    with pytest.raises(ValueError, match=r"input_size: .*give dtypes="):
        summarize(Clicks(), [(5,), (3,)])
    with pytest.raises(ValueError, match="one for each of 2 inputs"):
        summarize(Clicks(), [(5,), (3,)], dtypes=[torch.int64])
    with pytest.raises(ValueError, match="one for each of 1 inputs"):
        summarize(nn.Linear(4, 2), 4, dtypes=["int64"])
    with pytest.raises(ValueError, match="dtypes: expected none with example="):
        summarize(nn.Linear(4, 2), dtypes=torch.int64, example=torch.rand(1, 4))
    with pytest.raises(ValueError, match="example: expected what the model takes"):
        summarize(nn.Linear(4, 2), example=torch.rand(1, 5))
