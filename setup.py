"""What pyproject.toml cannot say: the shipped configs travel inside the package.

There `--config configs/demo.py` finds them from any folder.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["clapjax", "clapjax.*"]), "clapjax.configs"],
    package_dir={"clapjax.configs": "configs"},
    package_data={"clapjax": ["py.typed"], "clapjax.configs": ["*.sh"]},
)
