"""The network this project is named for, 784-96-256-10, and the one that papers compress."""

from __future__ import annotations

from torch import Tensor, nn

from fastmnist.layers.registry import made_without_arguments


@made_without_arguments
class NeuralNetwork(nn.Module):
    """A small multilayer perceptron for 28x28 digits: 784-96-256-10, ReLU, raw logits.

    Parameters
    ----------
    use_dropout : bool
        Whether 20 % of the hidden activations are dropped in training. Otherwise the same names
        hold ``nn.Identity``, so that checkpoints of both are compatible.

    Examples
    --------
    >>> import torch
    >>> NeuralNetwork()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, use_dropout: bool = True) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear1 = nn.Linear(784, 96)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(0.2) if use_dropout else nn.Identity()
        self.linear2 = nn.Linear(96, 256)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(0.2) if use_dropout else nn.Identity()
        self.linear3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Parameters
        ----------
        x : torch.Tensor, float32, shape [N, 1, 28, 28] or [N, 784]
            Images in the normalization that the network was trained with (0…1 by default).

        Returns
        -------
        torch.Tensor, float32, shape [N, 10]
            Logits: no softmax applied.
        """
        x = self.flatten(x)
        x = self.dropout1(self.relu1(self.linear1(x)))
        x = self.dropout2(self.relu2(self.linear2(x)))
        logits: Tensor = self.linear3(x)
        return logits


@made_without_arguments
class LeNet300(nn.Module):
    """LeNet-300-100: 784-300-100-10, ReLU, raw logits; 266,610 parameters.

    The fully connected network of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning
    applied to document recognition", 1998, with ReLU, as in the compression literature (Han, Mao
    and Dally, "Deep Compression", 2016).

    Examples
    --------
    >>> import torch
    >>> LeNet300()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear1 = nn.Linear(784, 300)
        self.relu1 = nn.ReLU()
        self.linear2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.linear3 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits, float32 ``[N, 10]``, of images ``[N, 1, 28, 28]`` or ``[N, 784]``."""
        x = self.relu1(self.linear1(self.flatten(x)))
        logits: Tensor = self.linear3(self.relu2(self.linear2(x)))
        return logits
