#include <capstan/server/compute/sort/sort-kernel.h>
