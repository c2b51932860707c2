#include <capstan/server/compute/deliver.h>
