"""The build stage: builds, describes and exports puzzle sets."""
