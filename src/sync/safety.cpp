#include <capstan/sync/safety.h>
