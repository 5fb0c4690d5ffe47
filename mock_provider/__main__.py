"""`python -m mock_provider`."""

from mock_provider.cli import main

main()
