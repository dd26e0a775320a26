"""The field's words on the page, explained on the page. In: a term's key. Out: links to explanations, and these."""

from __future__ import annotations

from xvectors.report.markup import escaped

TERMS: dict[str, tuple[str, str]] = {
    "trial": (
        "trial, target, non-target",
        "A trial is a pair of recordings that the system compares. It is a target trial where both are of one person, "
        "a non-target trial where they are of two.",
    ),
    "score": (
        "score, threshold",
        "The score of a trial says how alike the two voices are. The system answers “one person” where the score "
        "reaches the threshold.",
    ),
    "far": (
        "false acceptance, false match, FAR",
        "Two people taken for one. The false acceptance rate (FAR) is their share of all non-target trials.",
    ),
    "frr": (
        "false rejection, miss, FRR",
        "One person taken for two. The false rejection rate (FRR) is their share of all target trials.",
    ),
    "eer": (
        "EER, equal error rate",
        "The error rate at the threshold where false acceptances and false rejections are equally frequent. It is the "
        "usual figure to compare systems by. Guessing gives 50 %. On the ROC’s convex hull it may come out a little "
        "lower, because two thresholds are mixed there.",
    ),
    "interval": (
        "interval",
        "Where a figure would lie with other people of the same kind, with 95 % confidence. Whole speakers are "
        "resampled, because the trials of one speaker resemble each other. Fewer than 5 speakers give none, and few "
        "speakers give intervals that are too narrow. Where the errors are of fewer than 5 speakers, the upper end is "
        "at least what as many speakers can hide (the rule of three).",
    ),
    "det": (
        "DET curve",
        "Detection error trade-off: the two error rates at every threshold. A lower threshold gives fewer misses and "
        "more false matches. The axes are stretched so that normally distributed scores give a straight line.",
    ),
    "point": (
        "operating point",
        "A threshold that was chosen by a rule, such as “at most 1 % false acceptances”, and its error rates.",
    ),
    "llr": (
        "LLR, log-likelihood ratio",
        "A calibrated score. It is the natural logarithm of how many times likelier the two recordings are if they "
        "are of one person than if they are of two: 0 is undecided, 4.6 is 100 to 1 for one person, −4.6 is 100 to 1 "
        "against.",
    ),
    "calibration": (
        "calibration, prior",
        "Calibration turns scores into LLRs. An LLR and a prior, the probability of one person before listening, give "
        "a probability that can be taken at its word.",
    ),
    "cllr": (
        "Cllr, minCllr, calibration loss",
        "Cost of the LLRs in bits for a trial: 0 is perfect, 1 is what a system gets whose LLRs are all 0. minCllr is "
        "what the best calibration of the same scores would reach; the difference is the calibration loss.",
    ),
    "dcf": (
        "minDCF, actDCF",
        "Detection cost: misses and false acceptances weighed by a prior, which stands in brackets, and by what each "
        "costs. 1 is a system that always gives the cheaper of the two answers. minDCF is at the best threshold, "
        "actDCF at the threshold that the LLRs say is best.",
    ),
    "auc": (
        "ROC, AUC",
        "The ROC is the DET curve on plain axes. The area under it (AUC) is the chance that a target trial scores "
        "higher than a non-target trial; guessing gives 50 %.",
    ),
    "tpr": (
        "TPR at FPR",
        "The share of target trials that are accepted (true positives) at the threshold that accepts this share of the "
        "non-target trials (false positives).",
    ),
    "rank": (
        "identification, rank",
        "One recording of each person is enrolled, and the system looks for the owner of another. Rank 1 is how often "
        "the right person comes first, rank 5 how often among the first five.",
    ),
    "backend": (
        "back-end: cosine, PLDA, AS-norm",
        "What makes a score of two embeddings: the cosine of their angle; PLDA, a model of how speakers differ and how "
        "recordings of one speaker differ; AS-norm, which relates a score to the scores with other "
        "people’s recordings (the cohort).",
    ),
    "embedding": (
        "embedding, t-SNE, principal components",
        "An embedding is the list of numbers by which the network describes a voice. t-SNE and principal components "
        "draw them on paper.",
    ),
    "snr": (
        "SNR, dB",
        "Signal-to-noise ratio, estimated from pauses and speech. 10 dB is noisy, 30 dB is quiet.",
    ),
}


def term(key: str, text: str) -> str:
    """The text, which is escaped, linked to its explanation."""
    return f'<a class="term" href="#term-{_known(key)}">{escaped(text)}</a>'


def glossary() -> str:
    """Every explanation, where the links of `term` lead."""
    rows = (f'<dt id="term-{key}">{escaped(name)}</dt><dd>{escaped(text)}</dd>' for key, (name, text) in TERMS.items())
    return f'<dl class="glossary">{"".join(rows)}</dl>'


def _known(key: str) -> str:
    if key not in TERMS:
        raise KeyError(f"the glossary does not explain {key!r}")
    return key
