#include <capstan/server/compute/sort/sort.h>
