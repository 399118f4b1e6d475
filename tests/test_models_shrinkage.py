"""Shrinkage: it learns the mean of what may be true, and starts by changing nothing."""

import math

import torch

from warp_train.models.evidence import EVIDENCE, Lens, evidence
from warp_train.models.shrinkage import Shrinkage

WEAK, STRONG = 0.1, 1.5  # of lenses as they stand and amplified, half of each
NOISE = (0.2, 0.6)  # of photos full of lines and of others


def draw(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Answers and evidence `[count, …]`, the truth behind them, and its mean given both."""
    generator = torch.Generator().manual_seed(seed)
    strong = torch.rand(count, 1, generator=generator) < 0.5
    truth = torch.where(strong, STRONG, WEAK) * torch.randn(count, 3, generator=generator)
    poor = torch.rand(count, 1, generator=generator) < 0.5
    noise = torch.where(poor, NOISE[1], NOISE[0])
    answer = truth + noise * torch.randn(count, 3, generator=generator)
    evidence = torch.zeros(count, EVIDENCE)
    evidence[:, :1] = -2 * noise.log() / 3
    # Bayes: both kinds of lens, by how likely they make all three numbers.
    log_likely, means = [], []
    for spread in (WEAK, STRONG):
        variance = spread**2 + noise**2
        log_likely.append(-(answer**2 / variance + variance.log()).sum(1, keepdim=True) / 2)
        means.append(answer * spread**2 / variance)
    weak = torch.sigmoid(log_likely[0] - log_likely[1])
    return answer, evidence, truth, weak * means[0] + (1 - weak) * means[1]


def test_untrained_it_changes_nothing() -> None:
    answer, evidence, *_ = draw(8, 0)
    assert torch.equal(Shrinkage()(answer, evidence), answer)


def test_it_learns_the_mean_of_what_may_be_true() -> None:
    torch.manual_seed(0)
    shrinkage = Shrinkage()
    optimizer = torch.optim.Adam(shrinkage.parameters(), 1e-2)
    answer, evidence, truth, _ = draw(20_000, 1)
    for _ in range(300):
        optimizer.zero_grad()
        (shrinkage(answer, evidence) - truth).square().mean().backward()
        optimizer.step()
    answer, evidence, truth, best = draw(20_000, 2)
    with torch.no_grad():
        drawn = shrinkage(answer, evidence)
    # Against the closed form, and the best that one factor for all could do.
    factor = (answer * truth).sum() / answer.square().sum()
    loss = {
        name: (guess - truth).square().mean().item()
        for name, guess in (("drawn", drawn), ("best", best), ("linear", factor * answer))
    }
    assert loss["best"] < 0.8 * loss["linear"]
    assert loss["drawn"] < loss["best"] + 0.25 * (loss["linear"] - loss["best"])


def test_gradients_flow_through_the_answer_and_not_through_what_is_known_of_it() -> None:
    torch.manual_seed(0)
    shrinkage = Shrinkage()
    torch.nn.init.normal_(shrinkage.out.weight)
    answer, evidence, *_ = draw(1, 3)
    evidence.requires_grad_()
    by_answer, by_evidence = torch.autograd.functional.jacobian(
        lambda *given: shrinkage(*given)[0], (answer, evidence)
    )
    # Each mode by its own factor; through the features it would depend on all three.
    factors = by_answer[:, 0].diagonal()
    assert torch.equal(by_answer[:, 0], torch.diag(factors))
    assert (factors - 1).abs().min() > 1e-3
    assert by_evidence.any()


def test_evidence_counts_who_was_heard_and_how_alike_the_modes_look() -> None:
    weights = torch.zeros(1, 100)
    weights[0, :20] = 0.5  # 20 witnesses, 10 in all
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
    told = evidence(lens)
    assert told.shape == (1, EVIDENCE)
    assert not told.requires_grad
    sure, together, heard = told[0, :3], told[0, 3:6], torch.expm1(3 * told[0, 6:])
    torch.testing.assert_close(sure, torch.tensor([1.0, math.log(4) / 3, 0.0]))
    torch.testing.assert_close(together, torch.tensor([0.0, 0.0, 0.5]))  # 1 / √(4 · 1)
    torch.testing.assert_close(heard, torch.tensor([10.0, 0, 0, 20.0, 0, 0]), atol=1e-4, rtol=1e-5)
