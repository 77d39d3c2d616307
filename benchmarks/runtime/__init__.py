"""How long a replica takes to be there, what a reload loses, and what supervision costs.

Real processes and sockets throughout: the project is run by `seawall up`, the peers by
themselves. Times are a client's: from the act (a replica is asked for, a process is killed, a
request is sent to a service that sleeps) to the first answer with status 200.
"""
