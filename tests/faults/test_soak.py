"""The soak in a short form. The long form is `python -m tests.faults.soak`, and docs/operations.md has its table."""

from tests.faults.soak import growth, soak


def test_faults_of_all_dependencies_cause_no_wrong_response_and_no_growth() -> None:
    """The caches are not full yet, so memory may still grow by some kB for each request."""
    samples = soak(40)
    assert samples[-1].wrong == 0
    assert samples[-1].statuses.total() > 500
    assert growth(samples, "threads") < 1.5
    assert growth(samples, "files") < 1.5
    requests = samples[-1].statuses.total() - samples[0].statuses.total()
    assert samples[-1].megabytes - samples[0].megabytes < 30 + requests * 0.02
