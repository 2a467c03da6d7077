"""Metrics of several workers as one text of Prometheus."""

from wsd.supervisor.control.metrics import merge


def test_metrics_of_several_workers_stand_together_below_one_description() -> None:
    one = (
        '# HELP a_total Things\n# TYPE a_total counter\na_total{w="1"} 1.0\n# HELP b B\n# TYPE b gauge\nb{w="1"} 2.0\n'
    )
    two = (
        '# HELP a_total Things\n# TYPE a_total counter\na_total{w="2"} 3.0\n# HELP c C\n# TYPE c gauge\nc{w="2"} 4.0\n'
    )
    assert merge([one, "", two]) == (
        '# HELP a_total Things\n# TYPE a_total counter\na_total{w="1"} 1.0\na_total{w="2"} 3.0\n'
        '# HELP b B\n# TYPE b gauge\nb{w="1"} 2.0\n# HELP c C\n# TYPE c gauge\nc{w="2"} 4.0\n'
    )
