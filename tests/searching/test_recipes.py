"""Recipes as text, as objects and as YAML: all say the same, and what is wrong is pointed at."""

from __future__ import annotations

import itertools
import pickle

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import fastmnist as fm
from fastmnist.searching.named import NAMED
from fastmnist.searching.steps import Step
from fastmnist.searching.words import WORDS

TEXTS = [
    "int8",
    "prune80+cluster16+int8",
    "distill(96,64)+qat4",
    "distill(48,128,temperature=2,alpha=0.5,lr=0.003,augment)@20+prune50(scope=global)@3+int4",
    "neurons50(multiple_of=1)@5+train@3+bf16",
    "lowrank37.5+dynamic",
    "energy95+fp16",
    "rank32@0+fuse+int8(observer=mse)",
    "random50(seed=3)@0+cluster32(scope=channel)+int8",
    "distill(96,64)+prune80+distill@3+dynamic4",
    "qat(observer=minmax,per_channel=False)@2",
]


@pytest.mark.parametrize("text", [*TEXTS, *map(str, NAMED.values())])
def test_text_and_yaml_say_all(text):
    recipe = fm.Recipe.parse(text)
    assert fm.Recipe.parse(str(recipe)) == recipe
    assert fm.Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_text_stands_for_configurations():
    steps = fm.Recipe.parse("prune80(scope=global)@3 + cluster16 + INT4").steps
    assert steps[0] == Step(fm.L1Unstructured(0.8, scope="global"), epochs=3)
    assert steps[1].config == fm.Clusters(16)
    assert steps[2].config == fm.Static(weight_bits=4)
    assert fm.Recipe.parse("distill").steps[0].config == fm.Distillation()
    assert fm.Recipe.parse("fp16").steps[0].config == fm.Half(torch.float16)


def test_objects_and_text_mix():
    made = fm.Recipe((fm.LowRank(ratio=0.5), fm.Finetune(), "prune80@2", fm.QAT(weight_bits=4)))
    assert str(made) == "lowrank50+train+prune80@2+qat4"
    assert len(made) == 4


@given(st.floats(0.001, 0.999), st.integers(2, 8), st.integers(0, 50))
def test_numbers_come_back(share, bits, epochs):
    recipe = fm.Recipe((Step(fm.L1Unstructured(share), epochs), fm.Static(weight_bits=bits)))
    again = fm.Recipe.parse(str(recipe))
    assert again.steps[0].config.amount == share
    assert again.steps[1] == recipe.steps[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prun80+int8", r"unknown step 'prun80' in 'prun80\+int8': did you mean 'prune80'"),
        ("clutser16", "did you mean 'cluster16'"),
        ("ditill(96,64)+int8", "did you mean 'distill\\(96,64\\)'"),
        ("smalest", "did you mean 'smallest'"),
        ("xyzzy", "steps are fuse"),
        ("prune80++int8", "on both sides of '\\+'"),
        ("prune80+", "on both sides of '\\+'"),
        ("", "an empty text"),
        ("prune+int8", "expected a number behind it, as in 'prune80'"),
        ("prune150+int8", r"^recipe: 'prune150': expected 0 to 100 \(per cent\), got 150$"),
        ("int9", "from 2 to 8 bits"),
        ("cluster16.5", "whole number"),
        ("fuse3", "no number"),
        ("bf32", "expected 'bf16'"),
        ("int8@3", "trains nothing"),
        ("train@0", "at least 1"),
        ("distill@99999", "at most 10,000"),
        ("qat8(observr=mse)", "did you mean 'observer'"),
        ("prune80(scope=global,scope=layer)", "'scope' once"),
        ("prune80(96)", "got '96'"),
        ("int8(lr=1e-3)", "nothing is trained"),
        ("prune80(lr=-1)", "above 0"),
        ("int8+prune80", "expected nothing after 'int8'.*write 'prune80\\+int8'"),
        ("cluster16@2+prune80+int8", "before 'cluster16@2'.*'prune80\\+cluster16@2\\+int8'"),
        ("prune80+neurons50+int8", "write 'neurons50\\+prune80\\+int8'"),
        ("int8+train", "write 'qat8' to train"),
        ("cluster16+cluster8", "cluster once"),
        ("int8+int4", "nothing after 'int8'.*quantized once$"),
        ("sparse+int8", "the name 'sparse': write 'prune80@4\\+int8' for it"),
        (f"cluster{'9' * 400}", "whole number"),
        (f"rank{'9' * 400}", "whole number"),
        ("a" * 9000, "unknown step 'a{40}…a{40}': "),
    ],
)
def test_what_is_wrong_is_pointed_at(text, told):
    with pytest.raises(ValueError, match=told):
        fm.Recipe.parse(text)


@pytest.mark.parametrize("wrong", [None, 3, ["int8", 3], (fm.Static,), (torch.nn.ReLU(),)])
def test_what_is_no_recipe(wrong):
    with pytest.raises(TypeError, match="recipe"):
        fm.Recipe.of(wrong)


def test_order_survives_sorting():
    """What the error proposes is a recipe."""
    for text in ("cluster16@2+prune80+int8", "prune80+train@2+neurons50+int8"):
        with pytest.raises(ValueError, match="write") as caught:
            fm.Recipe.parse(text)
        proposed = str(caught.value).rsplit("'", 2)[1]
        assert {str(step) for step in fm.Recipe.parse(proposed)} == set(text.split("+"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "format"),
        ("- int8", "format"),
        ("format: fastmnist recipe\nversion: 2\nsteps: [int8]", "version 1"),
        ("format: fastmnist recipe\nversion: true\nsteps: [int8]", "version 1"),
        ("format: fastmnist recipe\nversion: 1\nsteps: int8", "'steps'"),
        ("format: fastmnist recipe\nversion: 1\nsteps: [3]", "'steps'"),
        ("format: fastmnist recipe\nversion: 1\nsteps: []", "at least one"),
        ("format: fastmnist recipe\nversion: 1\nsteps: [int8]\nrun: x", "no key 'run'"),
        ("format: fastmnist recipe\nversion: 1\nsteps: [prun80]", "prune80"),
        ("format: fastmnist recipe\nversion: 1\nsteps: [int8]\nmax_drop: x", "max_drop"),
        ('format: fastmnist recipe\nversion: 1\nsteps: [int8]\nname: "\\e[2Jx"', "of one line"),
        ("{", "what is none"),
        ("!!python/object/apply:os.system ['true']", "what is none"),
        ("[" * 3000, "expected"),
        ("x" * 20_000, "characters"),
    ],
)
def test_hostile_yaml(text, told):
    with pytest.raises(ValueError, match=told):
        fm.Recipe.from_yaml(text)


@pytest.mark.parametrize("key", ["version", "max_drop", "name", "steps", "? "])
def test_yaml_whose_lists_stand_for_millions_of_words(key):
    """What is wrong is named, and not printed."""
    lists = "&a [x,x,x,x,x,x,x,x,x,x]"
    for before, name in itertools.pairwise("abcdefghi"):
        lists += f", &{name} [{','.join([f'*{before}'] * 10)}]"
    rest = {"format": "fastmnist recipe", "version": "1", "steps": "[int8]"}
    rest.pop(key, None)
    text = "".join(f"{k}: {v}\n" for k, v in rest.items()) + f"{key}: [{lists}]\n"
    with pytest.raises((TypeError, ValueError)) as caught:
        fm.Recipe.from_yaml(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "step",
    [
        fm.L1Unstructured(1 / 3),
        fm.Structured(1e-9),
        fm.LowRank(energy=1 - 1e-10),
        Step(fm.Finetune(), lr=0.0012345678),
        Step(fm.Finetune(), lr=1),
    ],
)
def test_numbers_of_many_digits_come_back_as_they_were(step):
    recipe = fm.Recipe((step,))
    assert fm.Recipe.parse(str(recipe)) == recipe
    assert fm.Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_yaml_is_what_people_write():
    text = fm.Recipe(("prune80@2", "int8"), "mine", "for the door", 0.5).to_yaml()
    assert yaml.safe_load(text) == {
        "format": "fastmnist recipe",
        "version": 1,
        "name": "mine",
        "about": "for the door",
        "max_drop": 0.5,
        "steps": ["prune80@2", "int8"],
    }


def test_what_text_cannot_say():
    recipe = fm.Recipe((fm.CustomMask({"linear1": torch.ones(96, 784)}), fm.Static()))
    assert str(recipe).startswith("prune(…)")
    with pytest.raises(ValueError, match="more than numbers and words"):
        recipe.to_yaml()


def test_every_word_has_an_example_that_parses():
    for word in WORDS.values():
        assert fm.Recipe.parse(word.example).steps[0].word is word


def test_named_recipes_say_what_they_are_for():
    for name, recipe in NAMED.items():
        assert fm.Recipe.parse(name) is recipe
        assert recipe.about.endswith(".")
        assert recipe.max_drop is not None
