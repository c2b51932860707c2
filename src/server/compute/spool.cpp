#include <capstan/server/compute/spool.h>
