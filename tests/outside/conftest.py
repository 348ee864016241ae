"""What a user writes: which data, which variants of the model, and where limits differ."""

import pytest
from outside_models import trained, variants

import fastmnist as fm


@pytest.fixture(scope="session")
def fastmnist_data():
    return fm.load_dataset("digits")


@pytest.fixture(scope="session")
def their_model(fastmnist_data):
    return trained(fastmnist_data)


@pytest.fixture(scope="session")
def fastmnist_variants(their_model, fastmnist_data):
    return variants(fastmnist_data, their_model)


@pytest.fixture(scope="session")
def fastmnist_limits():
    return {"accuracy_drop": 1.0, "compiled": {"smaller": 3.5}, "int8": {"smaller": 3.5}}
