"""Tests of dsiam_net.solver_options."""

import argparse

import pytest

from dagnet import SGD, AdaDelta, AdaGrad, Adam, RMSProp
from dsiam_net.solver_options import (
    LATER_OPTIONS,
    add_solver_options,
    complete_solver,
    make_solver,
    without_later,
)


def parse(*given):
    parser = argparse.ArgumentParser()
    add_solver_options(parser.add_argument_group("training"))
    options = parser.parse_args([str(word) for word in given])
    complete_solver(options)
    return options


@pytest.mark.parametrize(
    "given, solver",
    [
        ((), SGD(0.9)),
        (("--momentum", 0.5, "--nesterov"), SGD(0.5, nesterov=True)),
        (("--solver", "adam"), Adam()),
        (("--solver", "adam", "--beta1", 0.5, "--epsilon", 1e-4), Adam(beta1=0.5, eps=1e-4)),
        (("--solver", "adam", "--beta2", 0.99), Adam(beta2=0.99)),
        (("--solver", "adagrad", "--rho", 0.9), AdaGrad(rho=0.9)),
        (("--solver", "adadelta", "--epsilon", 1e-3), AdaDelta(epsilon=1e-3)),
        (("--solver", "rmsprop", "--rho", 0.9, "--epsilon", 1e-3), RMSProp(1e-3, 0.9)),
    ],
)
def test_options_make_a_solver(given, solver):
    assert make_solver(parse(*given)) == solver


@pytest.mark.parametrize(
    "given, message",
    [
        (("--rho", 0.9), "--rho is a setting of adagrad, adadelta, rmsprop, not of --solver sgd"),
        (("--solver", "adam", "--momentum", 0.9), "--momentum is a setting of sgd, not of"),
        (("--solver", "adam", "--nesterov"), "which has --beta1, --beta2, --epsilon: leave it out"),
        (("--solver", "adagrad", "--beta1", 0.9), "--beta1 is a setting of adam, not of"),
        (("--solver", "rmsprop", "--beta2", 0.9), "--beta2 is a setting of adam"),
        (("--epsilon", 1e-8), "--epsilon is a setting of adam, adagrad, adadelta, rmsprop"),
        (("--momentum", 1), "momentum must lie in"),
        (("--solver", "adam", "--epsilon", 0), "eps must be above 0"),
    ],
)
def test_settings_of_other_solvers_and_bad_ones_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parse(*given)


def test_settings_of_other_solvers_stay_unset():
    options = parse("--solver", "adam")
    assert (options.momentum, options.nesterov, options.rho) == (None, None, None)
    assert (options.beta1, options.beta2, options.epsilon) == (0.9, 0.999, 1e-8)


def test_a_checkpoint_names_what_came_later_only_where_it_differs():
    assert without_later(vars(parse()), LATER_OPTIONS) == {"momentum": 0.9}
    assert without_later(vars(parse("--solver", "rmsprop")), LATER_OPTIONS) == {
        "solver": "rmsprop",
        "momentum": None,
        "nesterov": None,
        "epsilon": 1e-8,
        "rho": 0.99,
    }
