"""prefect.yaml deploys what `rootstock serve` serves."""

from pathlib import Path
from typing import Any

import pytest
from prefect.cli.deploy._config import _load_deploy_configs_and_actions
