#include <capstan/sync/remote-replica.h>
