#include <capstan/sync/cycle.h>
