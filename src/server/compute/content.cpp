#include <capstan/server/compute/content.h>
