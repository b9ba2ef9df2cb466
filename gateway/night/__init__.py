"""The night of 17 August 2017, as notices and alerts."""
