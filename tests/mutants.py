"""Wrong equations, which the tests must catch: `python tests/mutants.py [--list] [--only NAME ...]`.

Each mutant replaces one text of one file of the package, in a copy of it, and names the tests that should then fail. It
is killed where they do, survives where they pass, and is stale where its text does not stand in the file exactly once.
The tests pass in a copy without a mutant first: else none would show anything. The exit code is 1 unless every mutant
is killed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/flowscope")
LIMIT = 600.0  # seconds that the tests of a mutant may take, on a busy machine

BOUNDS = "tests/oracle/test_bounds.py"
LAWS = "tests/contracts/test_oracle_laws.py"
MOMENTS = "tests/oracle/test_moments.py"
PASS = "tests/curve/test_path_pass.py"
PATHS = "tests/contracts/test_path_laws.py"
STOCHASTIC, LIKELIHOOD = "sampling/stochastic.py", "sampling/likelihood.py"
MARGINALS = "tests/sampling/test_stochastic.py::test_the_marginals_are_kept_to_first_order"
ANCESTRAL = "tests/sampling/test_stochastic.py::test_ancestral_steps_between_noise_and_one_point_are_exact"
DENSITY = "tests/sampling/test_likelihood.py::test_the_likelihood_of_an_oracle_is_its_density"
ROUND_TRIP = "tests/sampling/test_inversion.py::test_inverting_and_sampling_is_a_round_trip_of_the_solvers_order"
SCALED = "tests/networks/test_networks.py::test_a_network_of_data_on_another_scale_is_the_field_of_ours"
CROSSING = "tests/curve/test_crossing.py"
LAST = "tests/oracle/test_last_step.py"
WHERE_THE_WEIGHT_IS = "tests/oracle/test_float32.py::test_errors_are_seen_where_the_weight_is"

REFERENCE = f"{LAWS}::test_equals_the_reference[linear-(5,)]"
ERROR = f"{BOUNDS}::test_logits_err_by_less_than_their_bound_and_by_a_good_part_of_it"
WINDOW = f"{BOUNDS}::test_what_is_not_done_again_has_the_weight_that_tau_allows_and_hardly_less"
COMBINE = f"{MOMENTS}::test_combine_is_associative_and_commutative"
BLOCKS = f"{LAWS}::test_the_budget_does_not_change_the_answer"
PROBES = f"{PASS}::test_every_probe_agrees_with_the_oracle"
SHARES = "tests/oracle/test_ranks.py::test_sums_over_any_shares_join_to_those_of_all"
DERIVATIVES = f"{PATHS}::test_coefficients_and_derivatives"
CONVERSION = f"{PATHS}::test_conversion_is_one_linear_system"


@dataclass(frozen=True)
class Mutant:
    """One wrong equation.

    Attributes:
        name: what it is called.
        file: in the package.
        text: what stands there exactly once.
        by: what is put in its place.
        wrong: what is wrong then, in a sentence.
        tests: pytest ids that should fail.
    """

    name: str
    file: str
    text: str
    by: str
    wrong: str
    tests: tuple[str, ...]


POSTERIOR, JOINED, LAW = "oracle/equation/posterior.py", "oracle/equation/moments.py", "oracle/law.py"
PATH_PASS, PATH_FILE, CROSS = "curve/path_pass.py", "paths.py", "curve/crossing.py"

LAST_STEP, FLOAT32, DRAWS = "oracle/last_step.py", "oracle/engines/float32.py", "oracle/engines/draws.py"

MUTANTS = (
    # (6d) to (6g): the last step
    Mutant(
        "never-about-the-heaviest",
        LAST_STEP,
        "step.error > _tolerated(law) * size",
        "step.error > 1e9 * size",
        "(6d) is taken whatever (6f) says.",
        (f"{LAST}::test_no_error_exceeds_what_is_proven[100000.0-None]",),
    ),
    Mutant(
        "bracket-in-float64",
        LAST_STEP,
        "doubled.difference(x, y, queries.alpha[:, None])",
        "(x - queries.alpha[:, None] * y, torch.zeros_like(x))",
        "x - alpha x1_j of (6e) is rounded at the size of x.",
        (f"{LAST}::test_far_from_0[cosine]",),
    ),
    Mutant(
        "certificate-without-rounding",
        "oracle/certificate.py",
        "error = moved + (LOGIT_TOLERANCE + torch.expm1(doubled.clamp_max(700))) * most + rounded",
        "error = shift + LOGIT_TOLERANCE * most * 1e-9",
        "(9c) has neither (6f) nor the rounding of the result.",
        (f"{LAST}::test_a_result_rounded_to_float32_is_within_its_proof",),
    ),
    Mutant(
        "variance-about-the-centre",
        LAST_STEP,
        "scale.abs() * step.variance_error > _tolerated(law) * size",
        "scale.abs() * step.variance_error > 1e9 * size",
        "The divergence is a difference of squares of any size.",
        (f"{LAST}::test_the_divergence_of_a_crowd_beside_an_outlier",),
    ),
    # (5d): float32 logits, looked at again
    Mutant(
        "rest-not-looked-at",
        FLOAT32,
        "some = ~hard & (bound > policy.tolerance * size)",
        "some = ~hard & (bound > 1e9 * size)",
        "What float32 logits of the rest do is not estimated.",
        (f"{WHERE_THE_WEIGHT_IS}[crowd_and_rare-1.0-torch]",),
    ),
    Mutant(
        "draws-of-the-light",
        DRAWS,
        "own = weights[inside, row[:, None]] * heights[inside]",
        "own = heights[inside] / (1e-9 + weights[inside, row[:, None]])",
        "Points are drawn where they have no weight.",
        (f"{WHERE_THE_WEIGHT_IS}[crowd_and_rare-1.0-torch]", f"{WHERE_THE_WEIGHT_IS}[periodic-1.0-torch]"),
    ),
    # (3), (4): the logits
    Mutant(
        "cross-term-sign",
        POSTERIOR,
        "products.mul_(-2 * alpha[:, None])",
        "products.mul_(2 * alpha[:, None])",
        "(4) adds 2 alpha <z, p_i>.",
        (REFERENCE,),
    ),
    Mutant(
        "point-norm-factor",
        POSTERIOR,
        "square += torch.outer(alpha**2, block.norms)",
        "square += torch.outer(alpha, block.norms)",
        "(4) takes alpha |p_i|^2 for alpha^2 |p_i|^2.",
        (REFERENCE,),
    ),
    Mutant(
        "logit-without-half",
        POSTERIOR,
        ".mul_(-0.5 / sigma[:, None] ** 2)",
        ".mul_(-1.0 / sigma[:, None] ** 2)",
        "(3) divides by sigma^2 for 2 sigma^2.",
        (REFERENCE,),
    ),
    Mutant(
        "logit-by-sigma",
        POSTERIOR,
        ".mul_(-0.5 / sigma[:, None] ** 2)",
        ".mul_(-0.5 / sigma[:, None])",
        "(3) divides by 2 sigma for 2 sigma^2.",
        (REFERENCE,),
    ),
    Mutant(
        "logit-without-log-w",
        POSTERIOR,
        ".add_(block.log_weights)",
        "",
        "(3) leaves out log w_i.",
        ("tests/contracts/test_engine_laws.py::test_weights_are_repeats[float64]",),
    ),
    Mutant(
        "exact-logit-without-log-w",
        POSTERIOR,
        "doubled.add(high, block.log_weights[column])",
        "doubled.add(high, 0 * block.log_weights[column])",
        "(3) in doubled precision leaves out log w_i.",
        (f"{MOMENTS}::test_logits_in_doubled_precision_are_the_same_logits",),
    ),
    Mutant(
        "exact-logit-without-half",
        POSTERIOR,
        "doubled.scale(square, -0.5 / states.sigma[row] ** 2)",
        "doubled.scale(square, -1.0 / states.sigma[row] ** 2)",
        "(3) in doubled precision divides by sigma^2 for 2 sigma^2.",
        (f"{MOMENTS}::test_logits_in_doubled_precision_are_the_same_logits",),
    ),
    Mutant(
        "exact-logit-high-part-alone",
        POSTERIOR,
        "(exact_high - high[row]) + (exact_low - low[row])",
        "(exact_high - high[row])",
        "What the high part of a leading logit rounds away is lost.",
        (f"{MOMENTS}::test_blocks_whose_peaks_differ_in_their_low_parts",),
    ),
    Mutant(
        "float32-logit-without-log-w",
        POSTERIOR,
        "return logits.add_(log_weights.to(torch.float32)[:, None])",
        "return logits",
        "(3) in float32 leaves out log w_i; the pass finds out, and does all states again.",
        ("tests/oracle/test_float32.py::test_ordinary_points_need_no_second_pass",),
    ),
    # (4a), (5): which logits are done again
    Mutant(
        "error-bound-times-0.05",
        POSTERIOR,
        "return ROUNDING * (",
        "return 0.05 * ROUNDING * (",
        "(4a) is twenty times too small.",
        (ERROR,),
    ),
    Mutant(
        "error-bound-without-centring",
        POSTERIOR,
        " + 4 * offset_norm * reach",
        "",
        "(4a) leaves out the roundings of the centring.",
        (ERROR,),
    ),
    Mutant(
        "window-without-log-N",
        POSTERIOR,
        "window = math.log(points) + rise",
        "window = rise",
        "(5) takes one point for what all points may weigh.",
        (WINDOW,),
    ),
    Mutant(
        "window-without-2E",
        POSTERIOR,
        "torch.maximum(rise, spread)) + double",
        "torch.maximum(rise, spread))",
        "(5) takes a logit in error for the true one.",
        (WINDOW,),
    ),
    Mutant(
        "window-without-branch",
        POSTERIOR,
        "torch.where(double > 300, double, grown)",
        "grown",
        "(5) holds e^{2E} at e^300 where E is larger.",
        (WINDOW,),
    ),
    # moments, and how blocks are joined
    Mutant(
        "entropy-sign",
        JOINED,
        "(self.mass.log() - self.slope / self.mass)",
        "(self.mass.log() + self.slope / self.mass)",
        "The entropy adds slope / mass.",
        (REFERENCE,),
    ),
    Mutant(
        "combine-scales-swapped",
        JOINED,
        "scale_a, scale_b = weights_of(drop_a), weights_of(drop_b)",
        "scale_b, scale_a = weights_of(drop_a), weights_of(drop_b)",
        "The block of the smaller peak is not scaled down, the other is.",
        (COMBINE,),
    ),
    Mutant(
        "combine-without-spread",
        JOINED,
        "b.total_variance) / whole + spread",
        "b.total_variance) / whole",
        "The variance between two blocks is left out.",
        (COMBINE,),
    ),
    Mutant(
        "combine-spread-not-normalised",
        JOINED,
        "(mass_a * mass_b / whole**2)",
        "(mass_a * mass_b / whole)",
        "The variance between two blocks is weighted by a mass, not by a share.",
        (COMBINE,),
    ),
    Mutant(
        "combine-entropy-without-drop",
        JOINED,
        "scale_a * a.slope + drop_a * mass_a +",
        "scale_a * a.slope +",
        "The slope of a block stays relative to the block's own peak.",
        (COMBINE,),
    ),
    Mutant(
        "combine-mass2-scale",
        JOINED,
        "scale_a**2 * a.mass2",
        "scale_a * a.mass2",
        "Squares of weights are scaled as weights.",
        (COMBINE,),
    ),
    Mutant(
        "combine-mean-share",
        JOINED,
        "share = (mass_b / whole)[:, None]",
        "share = (mass_a / whole)[:, None]",
        "The mean moves towards b by the share of a.",
        (COMBINE,),
    ),
    Mutant(
        "combine-without-low-parts",
        JOINED,
        "ahead = (a.peak - b.peak) + (a.peak_low - b.peak_low)",
        "ahead = a.peak - b.peak",
        "Peaks of two blocks are compared by their high parts alone.",
        (f"{MOMENTS}::test_blocks_whose_peaks_differ_in_their_low_parts",),
    ),
    Mutant(
        "combine-left-out-maximum",
        JOINED,
        "torch.logaddexp(a.left_out, b.left_out)",
        "torch.maximum(a.left_out, b.left_out)",
        "What two blocks left out is bounded by the larger, not by the sum.",
        (f"{MOMENTS}::test_what_was_left_out_adds_up",),
    ),
    # the law
    Mutant(
        "duplicates-not-summed",
        LAW,
        "mass = np.bincount(self.group[member], weights=s.relative_weights[member], minlength=len(self.first))",
        "mass = s.relative_weights[self.first] * np.isin(np.arange(len(self.first)), self.group[member])",
        "A point that occurs twice has the weight of its first copy.",
        (f"{LAWS}::test_duplicates_are_one_point",),
    ),
    Mutant(
        "law-not-normalised",
        LAW,
        "mass[chosen] / mass[chosen].sum()",
        "mass[chosen] / mass[chosen].max()",
        "Probabilities do not sum to 1.",
        (REFERENCE,),
    ),
    Mutant(
        "class-shares-equal",
        LAW,
        "ClassLaw(m / total, y, self.law(y))",
        "ClassLaw(1 / len(mass), y, self.law(y))",
        "Every class has the same share.",
        ("tests/oracle/test_conditions.py::test_conditions_are_the_oracle_of_each_label",),
    ),
    # paths
    Mutant(
        "A-sign",
        PATH_FILE,
        "return self.d_alpha - self.alpha * self.d_sigma / self.sigma",
        "return self.d_alpha + self.alpha * self.d_sigma / self.sigma",
        "A_t adds alpha sigma'/sigma.",
        (DERIVATIVES,),
    ),
    Mutant(
        "cosine-derivative",
        PATH_FILE,
        "sigma, rate * sigma, -rate * torch.sin(angle)",
        "sigma, sigma, -torch.sin(angle)",
        "Derivatives of the cosine path are by the angle, not by t.",
        (DERIVATIVES,),
    ),
    Mutant(
        "vp-derivative",
        PATH_FILE,
        "d_T * torch.exp(-T) / (2 * sigma)",
        "d_T * torch.exp(-T) / sigma",
        "sigma' of the VP path is twice what it is.",
        (DERIVATIVES,),
    ),
    Mutant(
        "convert-rows-swapped",
        PATH_FILE,
        '"velocity": (c.d_alpha, c.d_sigma)',
        '"velocity": (c.d_sigma, c.d_alpha)',
        "The velocity is sigma' data + alpha' noise.",
        (CONVERSION,),
    ),
    Mutant(
        "convert-determinant",
        PATH_FILE,
        "determinant = c.alpha * b - c.sigma * a",
        "determinant = c.alpha * b + c.sigma * a",
        "The 2x2 system has the wrong determinant.",
        (CONVERSION,),
    ),
    # the pass along paths
    Mutant(
        "path-logit-factor",
        "curve/accumulate.py",
        "np.stack([-r * r, -r, np.ones_like(r)]",
        "np.stack([-r * r / 2, -r, np.ones_like(r)]",
        "(7) takes r^2 d_ij / 4.",
        (PROBES,),
    ),
    Mutant(
        "path-logit-weights",
        PATH_PASS,
        "block.log_weights[None] - law.log_weights[probes.source][:, None]",
        "law.log_weights[probes.source][:, None] - block.log_weights[None]",
        "(7) takes log(w_j/w_i).",
        (f"{PROBES}[Zipf weights]",),
    ),
    Mutant(
        "path-spread-unit",
        PATH_PASS,
        "sums.spread.add_(scale * half * unit)",
        "sums.spread.add_(scale * half * unit / 2)",
        "The pair form takes d_ij / 2 for d_ij.",
        (f"{PASS}::test_spread_is_the_posterior_mean_of_squared_distances",),
    ),
    Mutant(
        "path-slope-without-level",
        PATH_PASS,
        "sums.slope.add_(scale * (slope + level * mass))",
        "sums.slope.add_(scale * slope)",
        "The slope of a block stays relative to the block's own level.",
        (f"{PASS}::test_a_source_that_hardly_weighs_anything_is_a_source",),
    ),
    Mutant(
        "path-source-twice",
        PATH_PASS,
        "a.mass + (b.mass - one)",
        "a.mass + b.mass",
        "Joined sums hold the source twice.",
        (SHARES,),
    ),
    Mutant(
        "path-second-largest",
        PATH_PASS,
        "first = torch.where(b.first == one, b.second, b.first)",
        "first = b.first",
        "Joined sums may name the source as the second largest, too.",
        (SHARES,),
    ),
    # crossings
    Mutant(
        "crossing-interpolation",
        CROSS,
        "share = np.clip((level - before)",
        "share = np.clip((after - level)",
        "The crossing is interpolated from the other end.",
        (CROSSING,),
    ),
    Mutant(
        "crossing-interval",
        CROSS,
        "[0.025, 0.975]",
        "[0.05, 0.95]",
        "The interval holds 90 % of the resamples.",
        (CROSSING,),
    ),
    # samplers
    Mutant(
        "sde-score-sign",
        STOCHASTIC,
        "(u + float(eta2) / 2 * score)",
        "(u - float(eta2) / 2 * score)",
        "The score of the SDE has the wrong sign.",
        (MARGINALS,),
    ),
    Mutant(
        "ancestral-larger-variance",
        STOCHASTIC,
        "float((back * added).clamp(min=0).sqrt())",
        "float(added.clamp(min=0).sqrt())",
        "The ancestral step has DDPM's larger variance, which is that of no data known.",
        (ANCESTRAL,),
    ),
    Mutant(
        "likelihood-sign",
        LIKELIHOOD,
        "return (base - state[:, -1])",
        "return (base + state[:, -1])",
        "The integral of the divergence is added.",
        (DENSITY,),
    ),
    Mutant(
        "inversion-once",
        "sampling/inversion.py",
        "TURNS = 4 ",
        "TURNS = 0 ",
        "The state before the last interval is taken to be the data, scaled.",
        (ROUND_TRIP,),
    ),
    Mutant(
        "data-scale-of-noise",
        "networks/field.py",
        "own.time_of_snr(here.snr / scale**2)",
        "own.time_of_snr(here.snr)",
        "A network of data on another scale is asked at the field's noise level.",
        (SCALED,),
    ),
)


def main() -> int:
    """Run the mutants that are asked for, and say what became of each; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[m.name for m in MUTANTS], help="run these alone")
    parser.add_argument("--list", action="store_true", help="say what each mutant gets wrong, and run none")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if asked.only is None or m.name in asked.only]
    if asked.list:
        print("\n".join(f"{m.name:<30} {m.file:<30} {m.wrong}" for m in chosen))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_the_project(Path(folder))
        if (code := run_tests(copy, tuple(dict.fromkeys(test for m in chosen for test in m.tests)))) != 0:
            print(f"the tests do not pass as they are (exit code {code}); expected a package that they accept")
            return 1
        outcomes = [report(mutant, copy) for mutant in chosen]
    print(", ".join(f"{outcomes.count(what)} {what}" for what in sorted(set(outcomes))))
    return int(any(outcome != "killed" for outcome in outcomes))


def copy_of_the_project(folder: Path) -> Path:
    """A copy of the package and its tests."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def report(mutant: Mutant, copy: Path) -> str:
    """What became of a mutant, printed."""
    began = time.monotonic()
    outcome = outcome_of(mutant, copy)
    print(f"{mutant.name:<30} {outcome:<10} {time.monotonic() - began:5.0f} s  {mutant.wrong}", flush=True)
    return outcome


def outcome_of(mutant: Mutant, copy: Path) -> str:
    """ "killed", "survived", "stale" or "broken": its tests could not be run to their end."""
    file = copy / PACKAGE / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.text) != 1:
        return "stale"
    file.write_text(text.replace(mutant.text, mutant.by), encoding="utf-8")
    try:
        return {0: "survived", 1: "killed"}.get(run_tests(copy, mutant.tests), "broken")
    finally:
        file.write_text(text, encoding="utf-8")


def run_tests(copy: Path, tests: tuple[str, ...]) -> int:
    """The exit code of pytest, up to the first failure: 0 where all pass, 1 where one fails."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return -1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
