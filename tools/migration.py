"""Write the next migration from the tables that the stores declare: `python tools/migration.py 0002 "what changed"`."""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from entobot.storage import migrations
from entobot.storage.database import metadata
from tests.support.stores import load_tables


def main(revision: str, message: str) -> None:
    load_tables()
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/now.db")
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["target_metadata"] = metadata
            if any(Path(migrations.__file__).parent.joinpath("versions").glob("*.py")):
                command.upgrade(config, "head")
            command.revision(config, message=message, autogenerate=True, rev_id=revision)


if __name__ == "__main__":
    main(*sys.argv[1:])
