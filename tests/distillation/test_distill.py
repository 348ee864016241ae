"""A student trained on what a teacher says."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import fastmnist as fm
from fastmnist.distillation.teachers import mean_of
from fastmnist.pixels import model_pixels


@pytest.fixture
def few(digits):
    return digits.train.subset(160)


def network(width: int = 12, outputs: int = 10, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, outputs)
        )


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return all(torch.equal(one[key], other[key]) for key in one)


def rows(half: fm.Split) -> torch.Tensor:
    return half.pixels.to_float(half.images)


# --- what is learnt


def test_a_student_comes_near_its_teacher_and_nothing_else_changes(trained, digits):
    student = network(24).train()
    before, state_of_teacher = state(student), state(trained)
    modes = [module.training for module in trained.modules()]
    random = torch.get_rng_state()
    made = fm.distill(student, trained, digits, epochs=8, seed=0, validation=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert student.training
    assert not made.training
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    assert all(torch.equal(state_of_teacher[k], v) for k, v in trained.state_dict().items())
    assert [module.training for module in trained.modules()] == modes
    assert type(made) is nn.Sequential
    assert made.history.loss[-1] < 0.3 * made.history.loss[0]
    assert made.history.val_accuracy[-1] > 0.9
    assert model_pixels(made) == digits.pixels
    again = fm.distill(student, trained, digits, epochs=8, seed=0)
    assert same(made, again)


def test_the_loss_is_hintons(few, trained):
    """One step of plain gradient descent, computed by hand."""
    student, t, alpha = network(), 3.0, 0.7
    made = fm.distill(
        student,
        trained,
        few,
        fm.Distillation(temperature=t, alpha=alpha),
        epochs=1,
        batch_size=len(few),
        shuffle=False,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
    )
    by_hand = copy.deepcopy(student)
    outputs = by_hand(rows(few))
    with torch.no_grad():
        p = F.softmax(trained(rows(few)).double() / t, 1)
    soft = (p * (p.log() - F.log_softmax(outputs.double() / t, 1))).sum(1).mean()
    loss = alpha * t**2 * soft + (1 - alpha) * F.cross_entropy(outputs, few.labels)
    loss.backward()
    assert made.history.loss[0] == pytest.approx(loss.item(), rel=1e-5)
    for parameter, learnt in zip(by_hand.parameters(), made.parameters(), strict=True):
        expected = parameter.detach() - 0.5 * parameter.grad
        assert torch.allclose(learnt, expected, atol=1e-6)


def test_what_is_kept_is_what_would_be_said(few, trained):
    """In memory, as a tensor, asked batch by batch, and through another kernel: the same."""
    logits = trained(rows(few)).detach()
    options = {"epochs": 2, "batch_size": 32, "shuffle": False}
    kept = fm.distill(network(), trained, few, **options)
    for teacher in (logits, logits.numpy().astype(np.float64)):
        assert same(kept, fm.distill(network(), teacher, few, **options))
    loader = DataLoader(few, batch_size=32)
    asked = fm.distill(network(), trained, loader, **options)
    for a, b in zip(kept.parameters(), asked.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_kept_outputs_follow_their_rows_when_they_are_shuffled(few):
    """Each row's outputs are its own number: only if they stay together can they be learnt."""
    x = torch.eye(16)
    logits = 5 * torch.eye(16)[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    config = fm.Distillation(temperature=1, alpha=1)
    made = fm.distill(nn.Linear(16, 16), logits, x, config, epochs=300, lr=0.05, batch_size=4)
    assert torch.equal(made(x).argmax(1), logits.argmax(1))
    subset = torch.utils.data.Subset(torch.utils.data.TensorDataset(x), [3, 9, 9, 1])
    made = fm.distill(
        nn.Linear(16, 16), logits[[3, 9, 9, 1]], subset, config, epochs=300, lr=0.05, batch_size=2
    )
    assert torch.equal(made(x[[3, 9, 1]]).argmax(1), logits[[3, 9, 1]].argmax(1))


def test_augmented_rows_are_asked_as_they_are(few):
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    student, teacher = network(), network(20, seed=1)
    teacher.register_forward_pre_hook(lambda _, args: seen["teacher"].append(args[0].clone()))

    class Watching(nn.Sequential):
        def forward(self, x):
            seen["student"].append(x.clone())
            return super().forward(x)

    fm.distill(Watching(*student), teacher, few, epochs=2, augment=fm.Affine(seed=0))
    pairs = [*zip(seen["student"][-10:], seen["teacher"][-10:], strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(pairs[0][0], pairs[5][0])
    with pytest.raises(ValueError, match="augment: expected none with outputs"):
        fm.distill(student, teacher(rows(few)), few, augment=fm.Affine())


def test_rows_without_targets(few, trained):
    config = fm.Distillation(alpha=1)
    with_targets = fm.distill(network(), trained, few, config, epochs=1, seed=0)
    without = fm.distill(network(), trained, few.images, config, epochs=1, seed=0)
    assert same(with_targets, without)
    with pytest.raises(ValueError, match="data: expected targets to train with"):
        fm.distill(network(), trained, few.images, epochs=1)


def test_an_ensemble_is_the_mean_of_probabilities(few, trained):
    others = [trained, network(30, seed=5)]
    logits = [model(rows(few)).detach() for model in others]
    mean = sum(F.softmax(part / 2.5, 1) for part in logits) / 2
    assert torch.allclose(F.softmax(mean_of(logits, 2.5) / 2.5, 1), mean, atol=1e-6)
    config = fm.Distillation(temperature=2.5)
    options = {"epochs": 1, "shuffle": False}
    made = fm.distill(network(), others, few, config, **options)
    assert same(made, fm.distill(network(), mean_of(logits, 2.5), few, config, **options))


def test_a_regression_is_taught_by_mean_squares():
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    teacher = nn.Linear(5, 1)
    data = (x, torch.randn(64, 1))
    config = fm.Distillation(alpha=1)
    made = fm.distill(
        nn.Linear(5, 1), teacher, data, config, loss_fn=nn.MSELoss(), epochs=200, lr=0.02
    )
    assert torch.allclose(made.weight, teacher.weight, atol=1e-2)
    two = nn.Linear(5, 2)
    by_itself = fm.distill(
        nn.Linear(5, 2), two, (x, torch.randn(64, 2)), config, epochs=200, lr=0.02
    )
    assert torch.allclose(by_itself.weight, two.weight, atol=1e-2)
    made = fm.distill(
        nn.Linear(5, 2),
        [two, copy.deepcopy(two)],
        (x, torch.randn(64, 2)),
        config,
        loss_fn=nn.L1Loss(),
        epochs=200,
        lr=0.02,
    )
    assert torch.allclose(made.weight, two.weight, atol=1e-2)


def test_a_soft_loss_of_ones_own(few, trained):
    calls = []

    def loss(mine, theirs):
        calls.append(theirs)
        return (mine - theirs).abs().mean(1)

    config = fm.Distillation(alpha=1, soft_loss=loss)
    made = fm.distill(network(), trained, few, config, epochs=1, shuffle=False)
    assert torch.equal(calls[0], trained(rows(few))[:32])
    assert made.history[0].loss == pytest.approx(float(made.history.loss[0]))
    by_squares = fm.Distillation(alpha=1, soft_loss="mse")
    start = fm.distill(network(), trained, few, by_squares, epochs=1, batch_size=160, lr=0.0)
    expected = F.mse_loss(network()(rows(few)), trained(rows(few)))
    assert start.history.loss[0] == pytest.approx(expected.item(), rel=1e-5)


# --- hidden layers


def test_hidden_layers_come_near(few):
    teacher = network(12, seed=7)
    config = fm.Distillation(alpha=0, layers={"2": "2"}, layer_weight=10)
    options = {"epochs": 6, "seed": 0, "lr": 3e-3}

    @torch.no_grad()
    def apart(model):
        return float(F.mse_loss(model[:3](rows(few)), teacher[:3](rows(few))))

    plain = fm.distill(network(), teacher, few, fm.Distillation(alpha=0), **options)
    assert apart(fm.distill(network(), teacher, few, config, **options)) < 0.1 * apart(plain)


def test_hidden_layers_of_other_widths(few):
    teacher = network(33, seed=7)
    config = fm.Distillation(layers={"2": "2"})
    made = fm.distill(network(), teacher, few, config, epochs=2, seed=0)
    assert [*made.state_dict()] == [*network().state_dict()]  # the regressor is thrown away
    assert same(made, fm.distill(network(), teacher, few, config, epochs=2, seed=0))
    assert not same(made, fm.distill(network(), teacher, few, epochs=2, seed=0))
    assert not any(module._forward_hooks for module in (*made.modules(), *teacher.modules()))


@pytest.mark.parametrize(
    ("layers", "teacher", "text"),
    [
        ({"9": "2"}, network(), "expected one of the student's, '0', '1'.*, got '9'"),
        ({"2": "hidden"}, network(), "one of the teacher's, .*, got 'hidden'"),
        ({"2": "2"}, [network(), network()], "expected one module as the teacher, .* several"),
        ({"2": "2"}, torch.zeros(160, 10), "expected one module as the teacher, .* outputs"),
        ({"0": "2"}, nn.Sequential(nn.Flatten(), nn.Unflatten(1, (28, 28)), nn.AvgPool1d(2),
                                   nn.Flatten(), nn.Linear(392, 10)), "expected values of shapes"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit(few, layers, teacher, text):
    student = network()
    before = state(student)
    with pytest.raises(ValueError, match=f"layers: .*{text}"):
        fm.distill(student, teacher, few, fm.Distillation(layers=layers))
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())


# --- students and teachers of other kinds


def test_a_pruned_student_keeps_its_zeros(few, trained):
    student = fm.prune(network(), fm.L1Unstructured(0.8))
    made = fm.distill(student, trained, few, epochs=2)
    assert torch.equal(made[1].weight == 0, student[1].weight == 0)
    assert "1.weight_mask" in made.state_dict()
    assert not torch.equal(made[1].weight, student[1].weight)
    fm.quantize(made, fm.Dynamic())


def test_a_clustered_student_keeps_its_clusters(few, trained):
    student = fm.cluster(network(), fm.Clusters(8))
    made = fm.distill(student, trained, few, epochs=2)
    assert torch.equal(made[1].weight_indices, student[1].weight_indices)
    assert not torch.equal(made[1].weight_centroids, student[1].weight_centroids)
    assert len(made[1].weight.unique()) == 8


def test_a_student_with_computed_weights(few, trained):
    student = network()
    torch.nn.utils.parametrizations.weight_norm(student[1])
    made = fm.distill(student, trained, few, epochs=2)
    assert torch.nn.utils.parametrize.is_parametrized(made[1])
    assert not torch.equal(made[1].weight, student[1].weight)


def test_a_prepared_student(digits, trained):
    prepared = fm.prepare_qat(network(24), fm.QAT())
    made = fm.distill(prepared, trained, digits, epochs=8, seed=0)
    q = fm.convert(made)
    assert fm.evaluate(q, digits) > 0.85
    assert torch.equal(fm.compile(q)(rows(digits.test)), q(rows(digits.test)))


def test_wrapped_models(few, trained):
    plain = fm.distill(network(), trained, few, epochs=1, seed=0)
    wrap = torch.optim.swa_utils.AveragedModel
    wrapped = fm.distill(wrap(network()), wrap(trained), few, epochs=1, seed=0)
    assert type(wrapped) is nn.Sequential
    assert same(plain, wrapped)
    assert same(plain, fm.distill(network().double(), trained, few, epochs=1, seed=0))
    compiled = torch.compile(network(), backend="eager")
    assert same(plain, fm.distill(compiled, trained, few, epochs=1, seed=0))


def test_a_quantized_student_is_refused_with_the_order(few, trained):
    q = fm.quantize(network(), fm.Dynamic())
    with pytest.raises(ValueError, match=r"layer '1' is quantized .*: distill first and quantize"):
        fm.distill(q, trained, few)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module"):
        fm.distill(fm.compile(q), trained, few)


def test_quantized_and_compiled_teachers(few, trained):
    q = fm.quantize(trained, fm.Static(calibration=few))
    options = {"epochs": 1, "shuffle": False}
    by_module = fm.distill(network(), q, few, **options)
    assert same(by_module, fm.distill(network(), fm.compile(q), few, **options))
    augmented = fm.distill(network(), fm.compile(q), few, epochs=1, augment=fm.Affine(seed=0))
    assert len(augmented.history) == 1


def test_a_teacher_gets_pixels_as_it_knows_them(few, trained):
    other = fm.Split(few.images, few.labels, mean=0.5, std=0.5)
    options = {"epochs": 1, "shuffle": False}
    said = trained(rows(few)).detach()  # it was trained on 0…1
    made = fm.distill(network(), trained, other, **options)
    assert same(made, fm.distill(network(), said, other, **options))
    student = network()
    fm.train(student, other, 1)
    with pytest.raises(ValueError, match="teacher: expected one that was trained on pixels"):
        fm.distill(student, trained, (rows(other), other.labels), epochs=1)


def test_the_result_is_an_ordinary_module(few, trained, tmp_path):
    made = fm.distill(network(), trained, few, epochs=1)
    x = rows(few)
    assert torch.equal(pickle.loads(pickle.dumps(made))(x), made(x))
    assert torch.equal(copy.deepcopy(made)(x), made(x))
    assert len(pickle.loads(pickle.dumps(made)).history) == 1
    fm.save(tmp_path / "student.safetensors", made)
    assert torch.equal(fm.load(tmp_path / "student.safetensors")(x), made(x))
    q = fm.quantize(made, fm.Static(calibration=few))
    assert torch.equal(fm.compile(q)(x), q(x))


# --- errors


@pytest.mark.parametrize(
    ("teacher", "error", "text"),
    [
        (network(outputs=7), ValueError, r"got \[8, 10\] of the student and \[8, 7\] of the"),
        (torch.zeros(160, 7), ValueError, r"got \[8, 10\] of the student and \[8, 7\]"),
        ([network(), network(outputs=7)], ValueError, r"\[8, 7\] of the teacher"),
        (torch.zeros(159, 10), ValueError, "teacher: .* got 159 for 160 rows"),
        (torch.zeros(160, 10, dtype=torch.int64), TypeError, "teacher: expected floating outputs"),
        (torch.full((160, 10), torch.nan), ValueError, "teacher: expected finite outputs"),
        ([], ValueError, "teacher: expected at least one"),
        ("mnist", TypeError, "teacher: expected a module, .* got str"),
        ([network(), torch.relu], TypeError, "got a list with"),
        (nn.LSTM(28, 10), TypeError, "teacher: expected a model whose output is one floating"),
    ],
)
def test_teachers_that_do_not_fit(few, teacher, error, text):
    student = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    if isinstance(teacher, nn.LSTM):
        few = (rows(few)[:, 0], few.labels)
    before = state(student)
    with pytest.raises(error, match=text):
        fm.distill(student, teacher, few)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())


def test_bad_arguments(few, trained):
    for bad in (
        {"temperature": 0},
        {"temperature": float("inf")},
        {"alpha": 1.1},
        {"layer_weight": -1},
        {"soft_loss": "l3"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
            fm.Distillation(**bad)
    for bad in ({"alpha": "0.9"}, {"layers": ["1"]}, {"temperature": True}):
        with pytest.raises(TypeError, match=f"{next(iter(bad))}: expected"):
            fm.Distillation(**bad)
    with pytest.raises(TypeError, match="config: expected a Distillation, got dict"):
        fm.distill(network(), trained, few, {"alpha": 1})
    with pytest.raises(ValueError, match="optimizer: expected a function"):
        fm.distill(network(), trained, few, optimizer=torch.optim.SGD(trained.parameters(), 0.1))
    with pytest.raises(ValueError, match="data: expected data that can be gone through more"):
        fm.distill(network(), trained, iter(DataLoader(few)))
    with pytest.raises(ValueError, match="epochs: expected an integer of at least 1"):
        fm.distill(network(), trained, few, epochs=0)
    loader = DataLoader(few, batch_size=16)
    with pytest.raises(ValueError, match="got 160 for data that is not in memory"):
        fm.distill(network(), torch.zeros(160, 10), loader)


def test_the_configuration_is_a_value():
    config = fm.Distillation(layers={"a": "b"})
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
