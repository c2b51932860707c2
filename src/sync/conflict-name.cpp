#include <capstan/sync/conflict-name.h>
