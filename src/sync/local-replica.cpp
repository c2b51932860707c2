#include <capstan/sync/local-replica.h>
