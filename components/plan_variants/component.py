"""KFP component: the variants of a config, checked before anything is computed."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def plan_variants(
    config: str,
    run_dir: str,
    variants: dict[str, list[str]] = {},  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> list[dict]:  # type: ignore[type-arg]
    """Give each variant a run directory. One whose overrides make no valid config fails the task.

    config: the text of a config (YAML), or where it lies: a path or s3:// URI.
    run_dir: the run directory, a path that all components share or an s3:// prefix.
    variants: the overrides (KEY=VALUE, as the command line's --set) of each, by name; without any, there is one,
        the config as it is, in the run directory itself.
    """
    from prefopt.platform.variants import planned_variants

    return planned_variants(config, run_dir, variants)
