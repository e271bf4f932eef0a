"""`ipc://NAME` and `ipc:///PATH`: between the processes of one machine, through a hub."""
