"""`ownstudio migrate`: bring the database up to date without serving, before the first of several servers starts."""

import typer

from ownstudio.cli.common import ConfigOption, DataOption, failing_plainly, load


def migrate(config: ConfigOption = None, data: DataOption = None) -> None:
    """Bring the database up to date and print its version before and after.

    `serve` does the same when it starts. A database that is up to date is left as it is.

    Examples:

      ownstudio migrate

      ownstudio migrate --config /etc/ownstudio.toml
    """
    settings = load(config, data=data).settings
    import asyncio  # noqa: PLC0415

    from ownstudio.store.database import Database, database_url  # noqa: PLC0415
    from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

    async def run() -> tuple[str | None, str | None]:
        directory = DataDirectory(settings.data)
        directory.prepare()
        url = database_url(settings.database_url, directory)
        before = await Database.version(url)
        await (await Database.open(url)).close()
        return before, await Database.version(url)

    with failing_plainly():
        before, after = asyncio.run(run())
    typer.echo(f"before  {before or 'empty'}")
    typer.echo(f"now     {after}")
