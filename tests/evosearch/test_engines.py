def test_xla_does_not_choose_kernels_by_their_speed_on_a_gpu() -> None:
    """A choice by speed would make the results of a search depend on chance."""
    assert interpreter_options("gpu") == {"xla_gpu_autotune_level": 0}
    assert interpreter_options("tpu") is None
