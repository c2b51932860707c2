#include <capstan/sync/state.h>
