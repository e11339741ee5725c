"""The delivery chain for container images on Apache Airflow. Imports nothing: Airflow's discovery runs early."""

__version__ = "0.1.0"
