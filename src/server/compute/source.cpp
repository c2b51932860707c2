#include <capstan/server/compute/source.h>
