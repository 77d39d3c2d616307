"""What a client's connection is doing."""

from typing import Final

HEAD: Final = 0  # waiting for a request
BODY: Final = 1  # an exchange is under way and its request's body still comes
WAIT: Final = 2  # an exchange is under way and its request is whole
SKIP: Final = 3  # the answer is given, the rest of the body is thrown away
TUNNEL: Final = 4
LINGER: Final = 5  # the last answer is given; what the client still sends is thrown away
FLUSH: Final = 6  # the last answer is given; the client has not taken all of it
CLOSED: Final = 7
