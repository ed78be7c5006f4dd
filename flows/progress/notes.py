"""What a run tells on its way, a line each."""

from schemas.results.artifacts import FileLedger, MixtureReport
from schemas.results.scores import Scores, Who


def ledger_line(total: FileLedger) -> str:
    """Where the rows went."""
    return (
        f"ledger: {total.read:,} rows = {total.accepted:,} accepted + {total.quarantined:,} quarantined"
        f" + {total.duplicate:,} duplicate + {total.leaked:,} leaked + {total.held_out:,} held out"
    )


def mixture_line(mixture: MixtureReport) -> str:
    """What is trained, in label tokens."""
    return (
        f"mixture: {mixture.domain_tokens:,} domain + {mixture.replay_tokens:,} replay tokens"
        f" ({mixture.achieved_ratio:.4f} replay, asked {mixture.requested_ratio}); {mixture.steps} steps,"
        f" sequences {mixture.fill_ratio:.1%} full"
        + "".join(
            f"; {share.label} {share.trained_documents:,} from {share.documents:,} documents"
            for share in mixture.labels[:8]
        )
    )


def scores_line(scores: Scores, who: Who) -> str:
    """What one model scores on every suite."""
    measure, values = scores.measure, []
    for suite in scores.suites:
        own = scores.measure_of(suite)
        values.append(f"{suite.name} {scores.value(suite, who):.3f}{own.unit if own != measure else ''}")
    unit = f" in{measure.unit}" if measure.unit else ""
    return f"{measure.name} of the {scores.called(who)}{unit}: {', '.join(values)}"
