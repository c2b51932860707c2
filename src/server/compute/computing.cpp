#include <capstan/server/compute/computing.h>
