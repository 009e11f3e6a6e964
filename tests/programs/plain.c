// Nothing but the chain.
#include "chain.h"

ALL_WORK
DISPATCH
MAIN
