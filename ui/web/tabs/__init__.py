"""The tabs of the page, a file each: controls, and events that call the verbs of `ui.services.workflow`."""
