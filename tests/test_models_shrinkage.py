"""Shrinkage: it approaches the mean of what may be true, and starts by changing nothing."""

import math

import torch

from warp_train.models.evidence import EVIDENCE, Lens, evidence
from warp_train.models.shrinkage import Shrinkage

WEAK, STRONG = 0.1, 1.5  # of lenses as they stand and amplified, half of each
NOISE = 0.4


def draw(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solutions `[count, 3]`, the truth behind them, and the truth's mean given the solution."""
    generator = torch.Generator().manual_seed(seed)
    strong = torch.rand(count, 1, generator=generator) < 0.5
    truth = torch.where(strong, STRONG, WEAK) * torch.randn(count, 3, generator=generator)
    solution = truth + NOISE * torch.randn(count, 3, generator=generator)
    # Bayes: both kinds of lens, by how likely they make all three numbers.
    log_likely, means = [], []
    for spread in (WEAK, STRONG):
        variance = spread**2 + NOISE**2
        log_likely.append(
            -(solution.square() / variance + math.log(variance)).sum(1, keepdim=True) / 2
        )
        means.append(solution * spread**2 / variance)
    weak = torch.sigmoid(log_likely[0] - log_likely[1])
    return solution, truth, weak * means[0] + (1 - weak) * means[1]


def test_untrained_it_changes_nothing() -> None:
    solution, *_ = draw(8, 0)
    assert torch.equal(Shrinkage()(solution), solution)


def test_it_learns_the_mean_of_what_may_be_true() -> None:
    torch.manual_seed(0)
    shrinkage = Shrinkage()
    optimizer = torch.optim.Adam(shrinkage.parameters(), 1e-2)
    solution, truth, _ = draw(20_000, 1)
    for _ in range(300):
        optimizer.zero_grad()
        (shrinkage(solution) - truth).square().mean().backward()
        optimizer.step()
    solution, truth, best = draw(20_000, 2)
    with torch.no_grad():
        shrunk = shrinkage(solution)
    # Against the closed form, and the best that one factor for all could do.
    factor = (solution * truth).sum() / solution.square().sum()
    loss = {
        name: (guess - truth).square().mean().item()
        for name, guess in (("shrunk", shrunk), ("best", best), ("linear", factor * solution))
    }
    assert loss["best"] < 0.9 * loss["linear"]
    assert loss["shrunk"] < loss["best"] + 0.25 * (loss["linear"] - loss["best"])


def test_a_large_solution_is_kept() -> None:
    shrinkage = Shrinkage()
    torch.nn.init.constant_(shrinkage.most, 1.0)
    modes = torch.tensor([[0.1, 0.0, 0.0], [30.0, 0.0, -20.0]], requires_grad=True)
    shrunk = shrinkage(modes)
    assert shrunk[0, 0] < 0.1 * modes[0, 0]
    torch.testing.assert_close(shrunk[1], modes[1], rtol=2e-3, atol=0)
    # Each mode by its own factor; through the size it would depend on all three.
    (slopes,) = torch.autograd.grad(shrunk[1].sum(), modes)
    torch.testing.assert_close(slopes[1], torch.ones(3), rtol=2e-3, atol=0)


def test_evidence_counts_the_weights_and_how_alike_the_modes_look() -> None:
    weights = torch.zeros(1, 100)
    weights[0, :20] = 0.5  # 20 edges, 10 in all
    information = torch.tensor([[[math.e**3, 0, 0], [0, 4.0, 1.0], [0, 1.0, 1.0]]])
    lens = Lens(
        torch.zeros(1, 3, requires_grad=True),
        information.requires_grad_(),
        weights,
        torch.tensor([0.0]),
        torch.zeros(1, 2, 100),
        torch.tensor([0.0]),
        torch.zeros(1, 2, 2),
    )
    seen = evidence(lens)
    assert seen.shape == (1, EVIDENCE)
    assert not seen.requires_grad
    precision, together, total = seen[0, :3], seen[0, 3:6], torch.expm1(3 * seen[0, 6:])
    torch.testing.assert_close(precision, torch.tensor([1.0, math.log(4) / 3, 0.0]))
    torch.testing.assert_close(together, torch.tensor([0.0, 0.0, 0.5]))  # 1 / √(4 · 1)
    torch.testing.assert_close(total, torch.tensor([10.0, 0, 0, 20.0, 0, 0]), atol=1e-4, rtol=1e-5)
