"""What an attempt says about its instance, and an exchange about its service.

Connections that fail are the instance's fault; the service is judged by its answers and by their
absence, or one killed instance would close a service whose others are well.
"""

from typing import Final

GOOD: Final = 0
BAD: Final = 1
NEITHER: Final = 2
