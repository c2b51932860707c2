#include <capstan/server/compute/reduce.h>
