"""VOEvent packets and the VTP network."""
